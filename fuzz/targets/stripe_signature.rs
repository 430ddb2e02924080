//! Any text as a signature's header: never accepted unless it holds the signature of this body under this secret.

#![no_main]

use churnd_fuzz::event::{
    stripe::signature::{InvalidSignature, header_for, verify},
    time::Timestamp,
};
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "whsec_of_the_fuzzer";
const AT: i64 = 1_767_225_600_000;

fuzz_target!(|input: (&str, &[u8], i16)| {
    let (header, body, seconds) = input;
    let at = Timestamp::from_millis(AT);
    let now = at.plus_millis(i64::from(seconds) * 1_000);
    let ours = header_for(SECRET, body, at);
    let signature = ours.rsplit('=').next().expect("a header has a signature");
    match verify(header, body, &[SECRET], now) {
        // Only whoever knows the secret can write this.
        Ok(index) => assert!(index == 0 && header.to_ascii_lowercase().contains(signature)),
        Err(invalid) => assert!(!invalid.code().is_empty()),
    }
    let within = (-300..=300).contains(&seconds);
    assert_eq!(verify(&ours, body, &["other", SECRET], now).ok(), within.then_some(1), "at {seconds} s");
    assert_eq!(verify(&ours, body, &[""], now), Err(InvalidSignature::NoSecret));
    assert_eq!(verify(&ours, body, &["another"], now), Err(InvalidSignature::Mismatch));
    let mut longer = body.to_vec();
    longer.push(b' ');
    assert_eq!(verify(&ours, &longer, &[SECRET], now), Err(InvalidSignature::Mismatch));
});
