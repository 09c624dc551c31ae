//! How much a pull may delete: a pure function of counts and limits.

use phobos_site::pull::MaxDelete;

/// How many folders may go with a few files, without asking rsync for a list.
const FOLDERS: u64 = 16;

/// What is to be done about deletions that rsync has kept back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// rsync may delete so many files and folders, whatever source they are of: each source can bear it alone.
    AtOnce(u64),
    /// rsync must say first of which source they are.
    Ask,
}

/// What is to be done about `kept_back` files; `before` says how many good files each source has.
///
/// rsync is given some more than it has kept back, for folders that go with them, but never more than the source with the
/// least room for deletions can bear.
pub(crate) fn plan(most: MaxDelete, before: impl Iterator<Item = u64>, kept_back: u64) -> Plan {
    // A source without files has none to lose.
    let of_any = before.filter(|files| *files > 0).map(|files| most.of(files)).min().unwrap_or_default();
    if kept_back > of_any {
        return Plan::Ask;
    }
    Plan::AtOnce(of_any.min(kept_back.saturating_mul(2).saturating_add(FOLDERS)))
}

/// Whether a source that has `before` good files may lose so many.
pub(crate) fn is_allowed(most: MaxDelete, before: u64, deleted: u64) -> bool {
    deleted <= most.of(before)
}

/// How many of the files that a source has `now` are good: what this pull has created is not, nor what an earlier one copied
/// and then refused to delete for; the last good pull left `recorded`.
pub(crate) fn good(now: u64, created: u64, recorded: Option<u64>) -> u64 {
    now.saturating_sub(created).min(recorded.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit() -> impl Strategy<Value = MaxDelete> {
        prop_oneof![(0..=100_u8).prop_map(MaxDelete::Percent), any::<u64>().prop_map(MaxDelete::Files)]
    }

    /// Two limits of one kind, the first no larger than the second.
    fn two_limits() -> impl Strategy<Value = (MaxDelete, MaxDelete)> {
        let percent = (0..=100_u8, 0..=100_u8);
        prop_oneof![
            percent.prop_map(|(a, b)| (MaxDelete::Percent(a.min(b)), MaxDelete::Percent(a.max(b)))),
            any::<(u64, u64)>().prop_map(|(a, b)| (MaxDelete::Files(a.min(b)), MaxDelete::Files(a.max(b)))),
        ]
    }

    /// Small numbers of files as often as any others.
    fn files() -> impl Strategy<Value = u64> {
        prop_oneof![0..300_u64, any::<u64>()]
    }

    proptest! {
        #[test]
        fn no_source_loses_its_last_file(most in limit(), before in files(), deleted in files()) {
            prop_assert!(!(before > 0 && deleted >= before && is_allowed(most, before, deleted)));
        }

        #[test]
        fn what_is_deleted_at_once_is_allowed_whatever_source_it_is_of(
            most in limit(),
            before in prop::collection::vec(files(), 0..6),
            kept_back in files(),
        ) {
            if let Plan::AtOnce(deletions) = plan(most, before.iter().copied(), kept_back) {
                for files in before.iter().filter(|files| **files > 0) {
                    prop_assert!(is_allowed(most, *files, deletions));
                }
                prop_assert!(deletions >= kept_back);
            }
        }

        #[test]
        fn a_larger_limit_forbids_nothing_that_a_smaller_one_allows(
            (small, large) in two_limits(),
            before in prop::collection::vec(files(), 0..6),
            (deleted, kept_back) in (files(), files()),
        ) {
            for files in &before {
                prop_assert!(!is_allowed(small, *files, deleted) || is_allowed(large, *files, deleted));
            }
            if let Plan::AtOnce(deletions) = plan(small, before.iter().copied(), kept_back) {
                let Plan::AtOnce(more) = plan(large, before.iter().copied(), kept_back) else {
                    return Err(TestCaseError::fail("asks with the larger limit alone"));
                };
                prop_assert!(more >= deletions);
            }
        }

        #[test]
        fn who_may_lose_some_may_lose_fewer(most in limit(), before in files(), deleted in files(), fewer in files()) {
            prop_assert!(!is_allowed(most, before, deleted) || is_allowed(most, before, deleted.min(fewer)));
        }

        /// Among few files, any but the last may go; among many, a share: so more files before can forbid, but never below
        /// the share of what there was.
        #[test]
        fn a_share_is_kept_of_many(percent in 0..=100_u8, before in 101..u64::MAX, deleted in files()) {
            let share = u64::try_from(u128::from(before) * u128::from(percent) / 100).unwrap();
            let allowed = is_allowed(MaxDelete::Percent(percent), before, deleted);
            prop_assert_eq!(allowed, deleted <= share.min(before - 1));
        }

        /// Whatever an attacker creates and has refused, twice or more, does not raise what may be deleted.
        #[test]
        fn what_was_created_since_the_last_good_pull_counts_for_nothing(
            most in limit(),
            recorded in files(),
            created in prop::collection::vec(files(), 0..5),
            deleted in files(),
        ) {
            let mut now = recorded;
            for more in created {
                now = now.saturating_add(more);
                let good = good(now, more, Some(recorded));
                prop_assert!(good <= recorded);
                prop_assert!(!is_allowed(most, good, deleted) || is_allowed(most, recorded, deleted) || recorded > 100);
            }
        }
    }

    #[test]
    fn what_any_source_can_bear_is_the_least_of_all() {
        let plan = |kept_back| plan(MaxDelete::Percent(50), [1000, 30, 0].into_iter(), kept_back);
        assert_eq!(
            [plan(0), plan(5), plan(29), plan(30)],
            [Plan::AtOnce(16), Plan::AtOnce(26), Plan::AtOnce(29), Plan::Ask]
        );
    }
}
