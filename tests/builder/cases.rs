//! The cases, by what they show.

use crate::harness::Case;
use crate::{faults, hostile, lent};

pub const ALL: [(&str, Case); 27] = [
    ("a_machine_is_lent_until_its_keeper_gives_it_back", lent::until_it_is_given_back),
    ("an_image_that_is_missing_is_sent_and_verified", lent::an_image_is_sent),
    ("an_image_that_two_want_is_sent_once", lent::an_image_is_sent_once),
    ("an_image_with_a_wrong_hash_is_refused", lent::a_wrong_image_is_refused),
    ("who_only_looks_sees_leases_and_what_is_kept", lent::who_only_looks),
    ("what_is_kept_is_purged_and_shown_before", lent::what_is_kept_is_purged),
    ("nothing_stays_when_the_pipe_ends", faults::the_pipe_ends),
    ("nothing_stays_whenever_the_pipe_ends", faults::the_pipe_ends_at_any_moment),
    ("nothing_stays_when_the_keeper_is_silent", faults::silence),
    ("nothing_stays_when_the_keeper_reads_nothing", faults::a_full_pipe),
    ("the_lease_of_a_killed_serve_is_swept_and_a_living_one_is_not", faults::killed),
    ("a_killed_serve_takes_its_machine_with_it_at_once", faults::killed_with_a_guest_that_takes_its_time),
    ("what_came_of_an_image_is_swept_after_a_kill", faults::killed_while_it_receives),
    ("a_builder_of_another_kind_is_refused_unless_it_may_be_emulated", hostile::another_arch),
    ("a_machine_that_ends_is_told", faults::the_machine_ends),
    ("a_guest_that_fails_is_told_with_its_reason", faults::the_guest_fails),
    ("a_frozen_qemu_is_seen_and_ended", faults::frozen),
    ("a_hung_supervisor_is_ended_with_its_machine", faults::hung),
    ("a_stop_is_hurried_by_another", faults::hurried),
    ("what_is_not_a_message_is_refused_and_leaves_nothing", hostile::what_is_not_a_message),
    ("messages_out_of_turn_are_refused", hostile::out_of_turn),
    ("what_a_newer_keeper_says_is_ignored_and_another_protocol_refused", hostile::newer),
    ("a_full_disk_is_told_before_anything_starts", hostile::a_full_disk),
    ("a_state_that_is_read_only_is_told_with_a_remedy", hostile::a_state_that_is_read_only),
    ("an_archive_that_does_not_answer_is_told_with_a_remedy", hostile::an_archive_that_does_not_answer),
    ("without_kvm_a_builder_that_requires_it_is_refused", hostile::no_kvm),
    ("all_that_is_missing_is_named_at_once", hostile::missing),
];
