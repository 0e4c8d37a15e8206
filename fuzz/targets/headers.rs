//! libFuzzer's way into [`baton_fuzz::headers`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| baton_fuzz::headers::run(data));
