//! libFuzzer's way into [`baton_fuzz::crt_file`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| baton_fuzz::crt_file::run(data));
