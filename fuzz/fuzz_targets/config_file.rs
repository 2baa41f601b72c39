#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tagwire::file::fuzz_file(data));
