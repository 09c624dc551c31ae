//! Mappings that are half-made: the kernel makes one in three steps, and a cryptsetup that is killed between two of them leaves its
//! name with nothing behind it, which sysfs may not show and which cryptsetup can neither close nor open again.

use std::thread;
use std::time::Duration;

use super::{LuksError, Uuid, container_uuid};
use crate::error::Chain;
use crate::exec::{Exec, ExecError, Invocation};

/// How often, and after what time again, it is looked whether a mapping is being made by somebody who lives.
const LOOKS: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(200);

/// Removes the mappings of the container `uuid` that are half-made, and stay so for a second.
///
/// The caller holds the lock that all users of the container take.
///
/// # Errors
///
/// When one cannot be removed; the container is not open by it. That dmsetup cannot say what there is is a warning: what is open is
/// seen in sysfs.
pub fn clear_half_made(exec: &dyn Exec, uuid: &Uuid) -> Result<(), LuksError> {
    let look = || match exec.run(&list_call()) {
        Ok(found) => half_made(&String::from_utf8_lossy(&found.stdout), uuid),
        Err(error) => {
            log::warn!("{}", Chain(&error));
            Vec::new()
        }
    };
    let mut names = look();
    for _ in 0..LOOKS {
        if names.is_empty() {
            return Ok(());
        }
        thread::sleep(BETWEEN);
        let still = look();
        names.retain(|name| still.contains(name));
    }
    for name in names {
        log::warn!("removing /dev/mapper/{name}, which somebody who was killed has left half-made");
        remove(exec, &name).map_err(|source| LuksError::HalfMade { name, source })?;
    }
    Ok(())
}

/// dmsetup(8): a line for each mapping, with `Live`, `Inactive`, `Both` or `None` for its tables.
fn list_call() -> Invocation {
    let columns = ["--separator", "/", "--options", "name,uuid,tables_loaded"];
    Invocation::new("dmsetup").args(["info", "--columns", "--noheadings"]).args(columns)
}

fn remove(exec: &dyn Exec, name: &str) -> Result<(), ExecError> {
    exec.run(&Invocation::new("dmsetup").args(["remove", "--"]).arg(name).shielded()).map(drop)
}

/// The mappings of the container in dmsetup's `list` that have no live table.
fn half_made(list: &str, uuid: &Uuid) -> Vec<String> {
    let found = list.lines().filter_map(|line| {
        let mut parts = line.trim().split('/');
        let (name, id, tables) = (parts.next()?, parts.next()?, parts.next()?);
        let is_its = container_uuid(id).as_deref() == Some(uuid.digits().as_str());
        (is_its && ["None", "Inactive"].contains(&tables)).then(|| name.to_owned())
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::fake::Script;

    const LIST: &str = "\
        a/CRYPT-LUKS2-1111111122223333444455555555abcd-a/None\n\
        b/CRYPT-LUKS2-1111111122223333444455555555abcd-b/Inactive\n\
        c/CRYPT-LUKS2-1111111122223333444455555555abcd-c/Live\n\
        d/CRYPT-LUKS2-1111111122223333444455555555abcd-d/Both\n\
        e/CRYPT-LUKS2-2222222222223333444455555555abcd-e/None\n\
        f//None\nNo devices found\n";

    fn uuid() -> Uuid {
        Uuid::try_from("11111111-2222-3333-4444-55555555abcd".to_owned()).unwrap()
    }

    #[test]
    fn what_has_no_live_table_is_half_made() {
        assert_eq!(half_made(LIST, &uuid()), ["a", "b"]);
        assert_eq!(half_made("No devices found\n", &uuid()), [""; 0]);
    }

    #[test]
    fn what_stays_half_made_is_removed_and_nothing_else() {
        let mut script = Script::new();
        for _ in 0..LOOKS {
            script = script.says(LIST);
        }
        let last = LIST.replace("b/CRYPT", "z/CRYPT");
        let script = script.says(&last).ok();
        clear_half_made(&script, &uuid()).unwrap();
        assert_eq!(script.calls().last().unwrap(), "dmsetup remove -- a", "{:?}", script.calls());
        let script = Script::new().fails(127, "");
        clear_half_made(&script, &uuid()).unwrap();
        assert_eq!(script.calls().len(), 1);
    }
}
