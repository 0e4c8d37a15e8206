//! libFuzzer's way into [`baton_fuzz::tunnel`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| baton_fuzz::tunnel::run(data));
