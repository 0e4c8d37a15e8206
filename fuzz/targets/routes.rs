//! libFuzzer's way into [`baton_fuzz::routes`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| baton_fuzz::routes::run(data));
