//! libFuzzer's way into [`baton_fuzz::connection_state`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| baton_fuzz::connection_state::run(data));
