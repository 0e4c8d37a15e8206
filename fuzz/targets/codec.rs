//! libFuzzer's way into [`baton_fuzz::codec`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| baton_fuzz::codec::run(data));
