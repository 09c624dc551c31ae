//! A plan: what makes of a copy what the source is, as a pure function of two surveys.

use std::path::{Path, PathBuf};

use super::survey::{Item, Survey};
use crate::fs::{Kind, same_time};

/// What has to be done so that the copy becomes what the source is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// How each file and folder of the new tree comes to be, folders before what is in them.
    pub steps: Vec<Step>,
    /// Files that the copy has and the source has not.
    pub gone: Vec<PathBuf>,
    /// Files that both have, with another size.
    pub resized: Vec<PathBuf>,
    /// Files that both have with the same size and another time: the same or not, only their content tells.
    pub touched: Vec<PathBuf>,
}

/// How one name of the new tree comes to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its path below the tree.
    pub path: PathBuf,
    /// What it has to be in the end.
    pub item: Item,
    /// How it is made.
    pub make: Make,
}

/// How a name of the new tree is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// As a folder.
    Folder,
    /// As a second name of the file that the copy has.
    Keep,
    /// As a copy of the source's file.
    Copy,
}

impl Plan {
    /// The plan that makes of `copy` what `source` is; only files and folders are seen.
    pub fn of(source: &Survey, copy: &Survey) -> Self {
        let mut plan = Self::default();
        for (path, item) in &source.items {
            let make = match (item.kind, copy.items.get(path).filter(|old| old.kind == Kind::File)) {
                (Kind::Dir, _) => Make::Folder,
                (Kind::File, None) => Make::Copy,
                (Kind::File, Some(old)) if old.size != item.size => {
                    plan.resized.push(path.clone());
                    Make::Copy
                }
                (Kind::File, Some(old)) if !same_time(item.mtime, old.mtime) => {
                    plan.touched.push(path.clone());
                    Make::Copy
                }
                (Kind::File, Some(_)) => Make::Keep,
                _ => continue,
            };
            plan.steps.push(Step { path: path.clone(), item: *item, make });
        }
        plan.steps.sort_by(|a, b| order(a).cmp(&order(b)));
        let is_gone = |path: &&Path| source.items.get(*path).is_none_or(|item| item.kind != Kind::File);
        plan.gone = copy.files().map(|(path, _)| path).filter(is_gone).map(Path::to_owned).collect();
        plan
    }

    /// Whether the copy is what the source is, but for owners and permissions.
    pub fn is_nothing(&self) -> bool {
        self.gone.is_empty() && self.copied().next().is_none()
    }

    /// The files that are copied.
    pub fn copied(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.make == Make::Copy)
    }

    /// How much is copied, in bytes.
    pub fn bytes(&self) -> u64 {
        self.copied().fold(0, |sum, step| sum.saturating_add(step.item.size))
    }

    /// Takes the copy's own files where `is_same` says that their content was found to be the source's.
    pub fn keep(&mut self, is_same: &dyn Fn(&Path) -> bool) {
        for step in self.steps.iter_mut().filter(|step| step.make == Make::Copy && is_same(&step.path)) {
            step.make = Make::Keep;
        }
        self.touched.retain(|touched| !is_same(touched));
    }
}

/// Folders first, then files whose names are numbers, in the order of these, then the others: a disk is written in the order
/// in which the files will be read.
fn order(step: &Step) -> (u8, u64, &Path) {
    let number = step.path.file_name().and_then(|name| name.to_str()?.parse().ok());
    match (step.item.kind, number) {
        (Kind::Dir, _) => (0, 0, &step.path),
        (_, Some(number)) => (1, number, &step.path),
        (_, None) => (2, 0, &step.path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn file(size: u64, time: i64) -> Item {
        Item { kind: Kind::File, size, mtime: (time, 0), uid: 0, gid: 0, mode: 0o600 }
    }

    fn trees() -> impl Strategy<Value = Survey> {
        let name = prop_oneof!["data/[0-2]/[0-9]{1,2}", "(config|README|hints.[0-9]|index.[0-9])"];
        prop::collection::btree_map(name, (0_u64..3, 0_i64..3), 0..20).prop_map(|files| {
            let mut items: BTreeMap<PathBuf, Item> =
                files.into_iter().map(|(name, (size, time))| (name.into(), file(size, time))).collect();
            let folders: Vec<PathBuf> = items
                .keys()
                .flat_map(|path| path.ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>())
                .filter(|path| !path.as_os_str().is_empty())
                .collect();
            items.extend(folders.into_iter().map(|path| (path, Item { kind: Kind::Dir, ..file(0, 0) })));
            Survey { items }
        })
    }

    /// What is there after the plan was carried out.
    fn carried_out(plan: &Plan, copy: &Survey) -> Survey {
        let made = plan.steps.iter().map(|step| match step.make {
            Make::Keep => (step.path.clone(), copy.items[&step.path]),
            Make::Copy | Make::Folder => (step.path.clone(), step.item),
        });
        Survey { items: made.collect() }
    }

    #[test]
    fn what_was_found_to_be_the_same_is_kept_and_nothing_else() {
        let survey = |files: &[(&str, i64)]| Survey {
            items: files.iter().map(|(name, time)| (PathBuf::from(name), file(1, *time))).collect(),
        };
        let source = survey(&[("data/0/1", 2), ("data/0/2", 2), ("new", 1), ("same", 1)]);
        let mut plan = Plan::of(&source, &survey(&[("data/0/1", 1), ("data/0/2", 1), ("same", 1)]));
        plan.keep(&|path| path == Path::new("data/0/1"));
        let makes: Vec<_> = plan.steps.iter().map(|step| (step.path.to_str().unwrap(), step.make)).collect();
        let wanted = [("data/0/1", Make::Keep), ("data/0/2", Make::Copy), ("new", Make::Copy), ("same", Make::Keep)];
        assert_eq!(makes, wanted);
        assert_eq!(plan.touched, [Path::new("data/0/2")]);
    }

    proptest! {
        #[test]
        fn carried_out_it_makes_the_copy_what_the_source_is(source in trees(), copy in trees()) {
            let plan = Plan::of(&source, &copy);
            prop_assert_eq!(&carried_out(&plan, &copy), &source);
            prop_assert!(Plan::of(&source, &source).is_nothing());
            prop_assert_eq!(plan.is_nothing(), plan.gone.is_empty() && source.files().all(|(path, item)| copy.items.get(path) == Some(item)));
            for path in &plan.gone {
                prop_assert!(copy.items.contains_key(path) && source.items.get(path).is_none_or(|item| item.kind == Kind::Dir));
            }
            for path in plan.resized.iter().chain(&plan.touched) {
                prop_assert!(copy.items[path] != source.items[path]);
            }
        }

        #[test]
        fn folders_come_before_what_is_in_them_and_segments_in_their_order(source in trees()) {
            let plan = Plan::of(&source, &Survey::default());
            for (place, step) in plan.steps.iter().enumerate() {
                let parent = step.path.parent().unwrap();
                prop_assert!(parent.as_os_str().is_empty() || plan.steps[..place].iter().any(|before| before.path == parent));
            }
            let numbers: Vec<u64> = plan.copied().filter_map(|step| step.path.file_name()?.to_str()?.parse().ok()).collect();
            prop_assert!(numbers.is_sorted());
        }
    }
}
