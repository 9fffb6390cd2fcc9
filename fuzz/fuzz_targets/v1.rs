#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| speedy_services::fuzz::v1(data));
