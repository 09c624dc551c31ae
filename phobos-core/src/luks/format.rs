//! The calls that make a container, give it a second key and keep its header; what is secret goes to their standard input.

use std::path::Path;
use std::time::Duration;

use super::{CrypttabEntry, OPEN_LIMIT, Uuid};
use crate::exec::{Exec, ExecError, Invocation};
use crate::mount;

/// How long a container may take to be made: a drive that slept has to spin up, and 16 MiB are overwritten.
const LIMIT: Duration = Duration::from_secs(600);

/// How often the bytes of a key file are hashed: random ones cannot be guessed, however fast one guess is.
const KEY_ROUNDS: &str = "1000";

/// What one guess of a passphrase costs, in KiB of memory and in rounds: what a small computer has too, as words that were
/// chosen by lot need no more.
const MEMORY: &str = "65536";
const ROUNDS: &str = "4";

/// The key slots of the key file and of the passphrase.
const KEY_SLOT: &str = "0";
const PASSPHRASE_SLOT: &str = "1";

/// Which key a container is to be opened with, to see whether it can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof<'a> {
    /// The key file.
    KeyFile(&'a Path),
    /// The passphrase, which is given to the call's standard input, without a line end.
    Passphrase,
}

/// The call that makes a LUKS2 container of `device`, which takes away whatever is on it. `sector` is in bytes.
pub fn format(device: &Path, uuid: &Uuid, sector: u64, key_file: &Path) -> Invocation {
    let call = Invocation::new("cryptsetup").args(["luksFormat", "--batch-mode", "--type=luks2", "--pbkdf=pbkdf2"]);
    let call = call.args(["--pbkdf-force-iterations", KEY_ROUNDS, "--key-slot", KEY_SLOT, "--uuid", uuid.as_str()]);
    let call = call.args(["--sector-size", &sector.to_string()]).arg("--key-file").arg(key_file);
    call.arg("--").arg(device).bound().limit(LIMIT)
}

/// The call that gives the container on `device` a passphrase too, which its standard input is to have, without a line end.
pub fn add_passphrase(device: &Path, key_file: &Path) -> Invocation {
    let call = Invocation::new("cryptsetup").args(["luksAddKey", "--batch-mode", "--pbkdf=argon2id"]);
    let call = call.args(["--pbkdf-memory", MEMORY, "--pbkdf-parallel=1", "--pbkdf-force-iterations", ROUNDS]);
    let call = call.args(["--key-slot", PASSPHRASE_SLOT, "--key-file"]).arg(key_file);
    // What is behind the device is the file of the new key: standard input.
    call.arg("--").arg(device).arg("-").bound().limit(LIMIT)
}

/// The call that keeps the header of the container on `device` in `file`, which must not exist.
pub fn back_up_header(device: &Path, file: &Path) -> Invocation {
    let call = Invocation::new("cryptsetup").args(["luksHeaderBackup", "--batch-mode", "--header-backup-file"]);
    call.arg(file).arg("--").arg(device).bound().limit(LIMIT)
}

/// The call that proves that a key opens a container, of which the header in `file` is enough, and opens nothing.
pub fn prove_key(file: &Path, proof: Proof<'_>) -> Invocation {
    proving(proof).arg("--").arg(file)
}

/// The call that proves that a passphrase, which its standard input is to have without a line end, opens the container of `entry` as
/// that says, and opens nothing. Exit code 2 says that it does not (cryptsetup(8), "RETURN CODES").
pub fn try_passphrase(entry: &CrypttabEntry) -> Invocation {
    proving(Proof::Passphrase).args(entry.unlock.options()).arg("--").arg(mount::device_of(&entry.device))
}

/// The beginning of a call that tries a key and opens nothing.
fn proving(proof: Proof<'_>) -> Invocation {
    let call = Invocation::new("cryptsetup").args(["open", "--test-passphrase", "--type=luks", "--batch-mode"]);
    let call = match proof {
        Proof::KeyFile(key) => call.arg("--key-file").arg(key),
        Proof::Passphrase => call.arg("--key-file=-"),
    };
    call.limit(OPEN_LIMIT)
}

/// How many keys open the LUKS2 container on `device`, or that whose header is in that file.
///
/// # Errors
///
/// When it is none, or of LUKS1.
pub fn key_slots(exec: &dyn Exec, device: &Path) -> Result<usize, ExecError> {
    let call = Invocation::new("cryptsetup").args(["luksDump", "--dump-json-metadata"]).arg(device).limit(OPEN_LIMIT);
    let said = exec.run(&call)?;
    let metadata: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
    Ok(metadata.get("keyslots").and_then(serde_json::Value::as_object).map_or(0, serde_json::Map::len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{Status, System};
    use crate::luks::{self, Unlock};
    use std::fs::{self, File};

    /// With cryptsetup itself, on a file: that takes no dm-crypt.
    #[test]
    fn a_container_is_made_with_two_keys_and_its_header_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("key"), [7; 64]).unwrap();
        File::create(at("drive")).unwrap().set_len(24 << 20).unwrap();
        let uuid = Uuid::try_from("11111111-2222-4333-8444-555555555555".to_owned()).unwrap();
        let exec = System::default();
        let done = |call: Invocation| exec.run(&call).map(drop).map_err(|error| error.to_string());
        done(format(&at("drive"), &uuid, 4096, &at("key"))).unwrap();
        assert_eq!(luks::container(&at("drive")).unwrap(), Some(uuid));
        let words = || b"one two".to_vec();
        done(add_passphrase(&at("drive"), &at("key")).stdin(words())).unwrap();
        done(back_up_header(&at("drive"), &at("header"))).unwrap();
        for file in ["drive", "header"] {
            done(prove_key(&at(file), Proof::KeyFile(&at("key")))).unwrap();
            done(prove_key(&at(file), Proof::Passphrase).stdin(words())).unwrap();
            assert!(done(prove_key(&at(file), Proof::Passphrase).stdin(b"one too".to_vec())).is_err());
        }
        // As the entry of crypttab(5) says: here with the header elsewhere, and in one slot.
        let tried = |slot: u32, words: &[u8]| {
            let unlock = Unlock { header: Some(at("header")), slot: Some(slot), discards: true, ..Unlock::default() };
            let entry = CrypttabEntry { device: at("drive").display().to_string(), unlock };
            exec.run(&luks::try_passphrase(&entry).stdin(words.to_vec())).map(drop)
        };
        tried(1, b"one two").unwrap();
        for (slot, words) in [(0, &b"one two"[..]), (1, b"one too")] {
            let failed = tried(slot, words).unwrap_err();
            assert!(matches!(failed, ExecError::Failed { status: Status::Code(2), .. }), "{failed}");
        }
        // A line end that is typed behind the words is not a part of them.
        let typed = Invocation::new("cryptsetup").args(["open", "--test-passphrase"]).arg(at("header"));
        done(typed.stdin(b"one two\n".to_vec())).unwrap();
        assert_eq!(luks::key_slots(&exec, &at("drive")).ok(), Some(2));
        assert!(luks::key_slots(&exec, &at("key")).is_err());
        let dump = exec.run(&Invocation::new("cryptsetup").arg("luksDump").arg(at("drive"))).unwrap().text();
        for line in ["sector: 4096 [bytes]", "PBKDF:      pbkdf2", "PBKDF:      argon2id", "Memory:     65536"] {
            assert!(dump.contains(line), "no {line} in {dump}");
        }
    }
}
