//! libFuzzer's way into [`baton_fuzz::control_socket`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| baton_fuzz::control_socket::run(data));
