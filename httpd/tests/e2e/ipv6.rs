//! The same over IPv6: tests that other files have for IPv4.

use crate::bed::over_ipv6;

macro_rules! over_ipv6 {
    ($($module:ident::$test:ident,)*) => {
        $(
            #[test]
            fn $test() {
                over_ipv6(crate::$module::$test);
            }
        )*
    };
}

over_ipv6! {
    downloads::sixty_four_parallel_downloads_of_100_mib_are_right,
    downloads::a_file_larger_than_the_cache_comes_whole_through_bounded_memory,
    downloads::curl_gets_a_large_file_and_resumes_connections,
    impaired::all_octets_are_right_on_a_bad_wire_with_delay,
    impaired::a_long_wire_is_filled,
    shutdown::idle_connections_do_not_hold_it_up,
    shutdown::a_download_is_finished_first,
    link::pings_of_every_size_that_fits_are_answered,
    link::a_client_that_forgot_the_address_finds_it_again,
    link::a_download_outlives_a_link_that_goes_for_a_moment,
    link_changes::one_that_is_set_down_and_one_without_its_master_are_waited_for,
    link_changes::another_mac_address_is_taken_and_announced,
    link_changes::a_smaller_mtu_is_followed_by_what_is_being_sent_and_a_larger_one_up_to_the_first,
    link::without_a_vlan_frames_are_untagged,
    kernel_options::without_sack,
    kernel_options::without_timestamps,
    kernel_options::without_window_scaling,
    kernel_options::without_any_option,
    kernel_options::with_the_smallest_usual_mss,
    kernel_options::with_tiny_receive_buffers,
    limits::a_client_has_so_many_connections_whatever_worker_they_come_to,
    limits::who_reads_or_sends_too_slowly_is_cut_off,
    stalled::a_client_that_reads_nothing_for_ten_seconds_gets_everything,
    stalled::a_head_that_trickles_in_is_given_up,
    http::head_is_get_without_the_body,
    sites::downloads_are_resumed,
    http::a_connection_serves_many_requests,
    http::a_connection_ends_when_either_side_says_so,
    http::a_thousand_pipelined_requests_are_answered_in_order,
    http::a_client_that_has_said_all_gets_all,
    http::a_request_may_come_octet_by_octet,
    http::what_the_client_sends_in_large_frames_is_taken_whole,
    workers::two_workers_share_an_interface,
    workers::a_shutdown_waits_for_the_last_download_of_all_workers,
    settings::fast_open_takes_the_request_with_the_syn_of_who_was_here_before,
    settings::jumbo_frames_carry_a_download,
    vlans::two_tags_in_each_other_are_a_vlan,
}
