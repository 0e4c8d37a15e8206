//! libFuzzer's way into [`baton_fuzz::config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| baton_fuzz::config::run(data));
