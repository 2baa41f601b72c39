#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagwire_netstack::fuzz::fuzz_ipv6(data));
