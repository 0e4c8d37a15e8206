//! libFuzzer's way into [`baton_fuzz::packet_path`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| baton_fuzz::packet_path::run(data));
