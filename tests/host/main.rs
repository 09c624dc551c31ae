//! What can be tested without the rig: real mount namespaces, loop-mounted ext4, borg and rsync, as root on any Linux.
//!
//! A story is a file `stories/MODULE/NAME.sh`, which `story` tells by hand, and a name here. Tests begin in the order of their
//! names, so the module that takes longest is `endurance`: no core stands idle beside the last of them.

#[cfg(test)]
mod miniature;
#[cfg(test)]
mod outside;

/// A test for each story, and the list of them.
macro_rules! stories {
    ($($module:ident: $($name:ident),+;)+) => {
        $(
            #[cfg(test)]
            mod $module {
                $(
                    #[test]
                    fn $name() {
                        crate::miniature::tell(concat!(stringify!($module), "/", stringify!($name)));
                    }
                )+
            }
        )+

        #[cfg(test)]
        const STORIES: &[&str] = &[$($(concat!(stringify!($module), "/", stringify!($name), ".sh")),+),+];
    };
}

stories! {
    attacks:
        limits_on_files_and_descriptors_silence_no_failure,
        no_local_user_can_hold_up_a_job_or_its_failure,
        no_local_user_can_hold_up_a_pull_or_a_check;
    drives:
        each_says_where_it_is_what_it_is_worth_and_when_it_is_due,
        what_is_not_as_it_should_be_is_told_once,
        while_drives_are_held_a_plug_in_mirrors_nothing,
        one_is_opened_to_look_at_and_closed_from_any_state,
        a_kill_at_any_moment_leaves_nothing_that_cannot_be_opened_and_closed,
        one_that_was_prepared_by_hand_is_adopted_with_what_is_on_it,
        a_disk_is_prepared_only_if_it_is_meant_and_nothing_needs_it,
        the_recovery_sheet_has_passphrases_that_open_and_no_others,
        every_bit_that_a_drive_loses_is_found_and_mended_from_a_good_source,
        however_many_files_rot_none_is_left_under_a_green_light,
        rot_in_the_repository_itself_is_known_before_it_matters,
        a_reading_that_is_killed_crowded_or_not_heard_leaves_the_drive_closed,
        a_drill_opens_a_drive_with_what_was_kept_outside,
        a_drill_restores_files_in_turn_and_writes_nothing,
        a_drill_names_wrong_chunks_a_changed_key_and_an_old_archive,
        a_drill_that_is_killed_is_cleared_away_by_the_next,
        a_borg_that_a_drive_has_taken_over_reaches_nothing,
        other_file_systems_are_drives_or_refused_with_a_remedy,
        subvolumes_of_btrfs_are_no_other_file_systems,
        what_a_power_cut_leaves_between_two_states_is_not_read_as_rot,
        what_is_read_in_goes_is_each_byte_that_the_drive_has,
        one_drive_by_two_names_is_refused_and_so_is_the_backup_disk_by_any,
        a_dry_run_touches_neither_side;
    endurance:
        many_small_files_are_pulled_and_then_left_alone,
        ten_jobs_at_once_never_disturb_each_other;
    ext:
        a_mirror_is_whole_and_the_second_one_copies_only_what_is_new,
        metadata_of_the_holding_spaces_is_kept,
        a_dry_run_changes_nothing,
        a_source_that_is_not_the_repository_leaves_the_drive_as_it_was,
        an_older_or_much_smaller_source_leaves_the_drive_as_it_was,
        a_drive_that_holds_something_else_is_refused_and_the_originals_copy_is_adopted,
        a_full_drive_keeps_its_old_copy,
        a_repository_in_use_is_waited_for_by_name,
        one_run_at_a_time_and_leftovers_are_cleared,
        killed_or_stopped_in_the_middle_it_leaves_no_mount,
        progress_is_a_line_now_and_then_and_a_bar_for_a_person,
        a_run_that_could_not_begin_stays_red_until_one_succeeds,
        bad_input_is_one_line_and_does_nothing,
        nobody_who_reads_the_two_lines_is_no_reason_not_to_mirror;
    guard:
        a_confined_program_writes_in_its_folder_and_nowhere_else,
        a_confined_program_is_nobody_and_sees_little,
        a_key_reads_what_is_configured_and_can_do_nothing_else,
        a_daemon_is_checked_too,
        a_client_that_lies_changes_nothing_outside_its_holding_space,
        a_receiver_taken_over_by_its_client_is_kept_in_by_landlock,
        what_a_receiver_leaves_is_removed_however_deep_it_is,
        a_killed_pull_leaves_neither_processes_nor_the_key,
        a_pull_after_a_boot_works_under_the_units_umask;
    jobs:
        every_json_says_its_version,
        a_command_runs_in_the_namespace_as_if_called_directly,
        a_failure_of_a_scheduled_job_stays_red_until_the_job_succeeds,
        a_killed_job_is_in_the_history_once_and_its_light_red,
        a_signal_reaches_the_command_and_its_end_is_passed_on,
        a_holder_is_named_and_its_death_frees_the_lock,
        the_holder_says_when_it_should_end_and_the_history_who_waited_and_who_failed,
        a_borg_that_phobos_did_not_start_is_waited_for,
        an_interactive_shell_has_its_terminal_and_job_control,
        the_namespace_is_shown_and_removed_only_when_nothing_runs_in_it,
        what_excludes_each_other_never_overlaps;
    mirror:
        damage_to_the_source_never_reaches_the_drive,
        a_damaged_new_segment_is_not_copied,
        what_hints_and_index_name_has_to_be_there,
        what_vanishes_right_before_rsync_takes_nothing_with_it,
        where_nothing_has_changed_rsync_is_not_asked,
        an_older_repository_does_not_win_by_patience,
        a_source_behind_a_link_is_refused,
        a_file_of_the_same_size_and_second_is_copied,
        a_file_system_that_has_lost_a_bitmap_is_red_until_it_is_repaired,
        a_hostile_drive_reaches_nothing,
        foreign_names_are_left_alone_and_refused_at_adoption,
        what_a_killed_run_wrote_is_copied_again,
        an_rsync_that_lies_is_found_out_and_a_lost_mount_ends_the_run,
        the_generation_before_is_a_whole_repository,
        the_guide_on_a_drive_is_followed_word_by_word,
        a_place_behind_a_link_is_used_where_it_is,
        the_backup_disk_itself_and_a_file_system_with_errors_are_no_drive,
        sparse_files_stay_sparse_and_what_rsync_keeps_in_attributes_comes_along,
        another_partition_in_use_is_not_green,
        the_repository_is_only_read,
        deleting_first_makes_room_and_holding_spaces_can_stay_at_home,
        writes_that_a_drive_loses_are_never_green,
        names_at_the_top_are_mirrored_and_records_are_not_believed,
        many_large_attributes_take_no_memory,
        large_folders_take_no_memory,
        memory_is_small_whatever_the_size,
        a_fault_at_any_moment_is_never_green_without_a_whole_copy,
        a_power_cut_at_any_moment_leaves_the_old_or_the_new_copy;
    ns:
        it_is_made_once_and_invisible_outside,
        calls_at_once_make_one,
        a_plain_file_is_used_and_a_dead_namespace_is_replaced,
        a_backup_that_everybody_can_see_is_refused,
        without_fstab_entry_or_disk_nothing_is_kept,
        in_a_namespace_of_its_own_it_says_so,
        a_confined_process_gets_the_backups_in_its_own_namespace,
        it_pins_nothing_that_was_mounted_when_it_was_made;
    pull:
        three_hosts_are_pulled_side_by_side_and_can_be_given_back,
        files_are_given_back_as_they_were_and_over_nothing,
        files_are_given_back_from_a_drive_that_is_closed_again,
        files_are_given_back_from_an_archive,
        files_are_given_back_to_the_host_itself_with_a_key_for_this_once,
        without_a_host_or_a_disk_nothing_is_done_and_one_line_says_so,
        a_client_that_is_cut_off_is_offline_and_the_rest_is_copied_next_time,
        whoever_is_not_there_is_offline_and_a_laptop_may_be_for_a_while,
        a_changed_host_key_and_a_key_that_is_not_let_in_are_told,
        a_host_that_is_there_is_never_told_to_be_away,
        a_key_restricted_with_any_rrsync_reads_its_folder,
        a_host_behind_another_is_reached_through_it_with_the_same_key,
        an_authority_vouches_for_its_hosts,
        every_kind_of_server_is_pulled_checked_and_its_refusal_told,
        an_empty_source_and_a_mass_of_deletions_delete_nothing,
        files_that_vanish_are_noted_and_files_that_cannot_be_read_are_named,
        a_file_of_the_same_size_and_second_is_pulled,
        a_full_disk_and_a_client_that_hangs_fail_and_leave_the_copy_as_it_was,
        a_host_that_sends_without_end_fills_the_disk_for_nobody,
        a_killed_pull_leaves_a_mark_and_the_next_one_goes_on,
        pulls_wait_for_the_nightly_job_and_start_with_the_oldest,
        no_shell_sees_the_name_of_a_source_and_other_ways_than_ssh_work,
        whoever_watches_sees_a_line_for_each_host_and_the_light;
    status:
        what_runs_waits_and_failed_is_told_as_it_is,
        ten_years_of_runs_and_any_garbage_take_little_memory,
        the_page_is_one_file_and_is_served_to_whoever_asks,
        a_machine_set_up_wrongly_is_told_how_to_mend_it,
        hooks_are_told_once_and_hold_up_nobody,
        each_recipe_for_a_hook_reaches_what_it_names;
    unlock:
        a_machine_gets_its_passphrase_and_nobody_else_does;
}

/// A story that nobody tells proves nothing.
#[test]
fn every_story_is_told() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("host/stories");
    let mut untold = Vec::new();
    for module in std::fs::read_dir(&folder).unwrap() {
        for story in std::fs::read_dir(module.unwrap().path()).unwrap() {
            let path = story.unwrap().path();
            let name = path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
            if !STORIES.contains(&name.as_str()) && !name.starts_with("outside/") {
                untold.push(name);
            }
        }
    }
    assert!(untold.is_empty(), "add them to `stories!`: {untold:?}");
}
