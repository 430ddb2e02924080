//! Any text as a customer's id, a token, a stored subject: each id has one token, each token at most one id.

#![no_main]

use churnd_fuzz::event::{
    ids::CustomerId,
    subject::{DecodedToken, MAX_TOKEN_BYTES, decode, encode, parse_partitioned, partition_of},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(customer) = CustomerId::parse(text) {
        let token = encode(&customer);
        let bytes = token.as_str().as_bytes();
        assert!((1..=MAX_TOKEN_BYTES).contains(&bytes.len()));
        assert!(bytes.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"_-=".contains(&byte)), "{token}");
        match decode(token.as_str()).expect("our own tokens are tokens") {
            DecodedToken::Plain(back) => assert_eq!(back, customer),
            DecodedToken::Hashed => assert!(text.len() * 3 > MAX_TOKEN_BYTES),
        }
        let partition = partition_of("acme", token.as_str(), 16);
        let subject = format!("churn.p.{}.acme.{token}", partition.0);
        let parsed = parse_partitioned(&subject).expect("stored subjects are taken apart");
        assert_eq!((parsed.partition, parsed.account, parsed.token), (partition, "acme", token.as_str()));
        assert_eq!(partition_of("acme", token.as_str(), 32).0 % 16, partition.0, "doubling moves to p or p + 16");
    }
    if let Ok(DecodedToken::Plain(customer)) = decode(text) {
        assert_eq!(encode(&customer).as_str(), text, "a second token for the same id");
    }
    if let Some(parsed) = parse_partitioned(text) {
        assert_eq!(format!("churn.p.{}.{}.{}", parsed.partition.0, parsed.account, parsed.token), text);
        assert_eq!(parsed.key, format!("{}.{}", parsed.account, parsed.token));
    }
});
