//! Signatures computed elsewhere (by Python's `hmac`), and everything that may be odd about their header.

use super::*;

const BODY: &str = r#"{"id":"evt_1","object":"event","type":"invoice.paid"}"#;
const TIME: i64 = 1_790_000_000;
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD_SECRET: &str = "whsec_0123456789abcdefghijklmnop";
/// By `SECRET` over `1790000000.` and the body.
const GOOD: &str = "e7b3634070a520b6c470ddebb4193ce2351439b462bf9c583021854bc36fafdc";
const BY_OLD: &str = "eab029f5a378de0e098dfa26d59475283c103902126e933a2446f1efd3a662d4";
const BY_OTHER_TENANT: &str = "4b87ecdf15b1c15681739b67903c6b328b9b44cba0dc1f02882ce5716fa7340e";
const BY_EMPTY: &str = "a97286263de9fbf01e8e69f0a1072a8f26b84dbfa640fbb6014d88eaf60522ac";
/// By the secret without its `whsec_`.
const BY_BARE: &str = "16bd983b850d006a62b978ec67adf5482c364b347cda96d21b6e402db018ad2c";
const BY_SHA1: &str = "eaa875be5917d9356b2a899fe39431877afe18d8";
/// Over the body alone.
const WITHOUT_TIME: &str = "0e8f101dd3fb7ff6def1e60ba43512bbd9f735e316d359cdf2d322d3ff6ce6b0";

fn outcome(header: &str, body: &[u8], secrets: &[&str], seconds: i64) -> Result<usize, &'static str> {
    verify(header, body, secrets, Timestamp::from_seconds(seconds)).map_err(InvalidSignature::code)
}

#[test]
fn each_odd_header_is_decided_on() {
    let upper = GOOD.to_uppercase();
    let many = [&format!("v1={BY_OTHER_TENANT},").repeat(20), "v1=", GOOD].concat();
    let long = format!("t={TIME},v1={GOOD},v0={}", "0".repeat(MAX_HEADER_BYTES));
    let of = |parts: &str| format!("t={TIME},{parts}");
    let cases: &[(&str, String, Result<usize, &str>)] = &[
        ("as Stripe sends it", of(&format!("v1={GOOD}")), Ok(0)),
        ("with test mode's v0", of(&format!("v1={GOOD},v0={BY_OTHER_TENANT}")), Ok(0)),
        ("v0 first", of(&format!("v0={BY_OTHER_TENANT},v1={GOOD}")), Ok(0)),
        ("the time last", format!("v1={GOOD},t={TIME}"), Ok(0)),
        ("good after another", of(&format!("v1={BY_OTHER_TENANT},v1={GOOD}")), Ok(0)),
        ("good before another", of(&format!("v1={GOOD},v1={BY_OTHER_TENANT}")), Ok(0)),
        ("good among many", of(&many), Ok(0)),
        ("the same twice", of(&format!("v1={GOOD},v1={GOOD}")), Ok(0)),
        ("good after undecodable", of(&format!("v1=zz,v1={GOOD}")), Ok(0)),
        ("good before undecodable", of(&format!("v1={GOOD},v1={}", "g".repeat(64))), Ok(0)),
        ("good after an odd length", of(&format!("v1=abc,v1={GOOD}")), Ok(0)),
        ("good after an empty one", of(&format!("v1=,v1={GOOD}")), Ok(0)),
        ("upper case", of(&format!("v1={upper}")), Ok(0)),
        ("spaces around the parts", format!(" t={TIME} , \tv1={GOOD} "), Ok(0)),
        ("empty parts", format!(",t={TIME},,v1={GOOD},"), Ok(0)),
        ("parts without a value", of(&format!("v1,x,v1={GOOD}")), Ok(0)),
        ("unknown schemes", of(&format!("v2={BY_OLD},x=y,v1={GOOD}")), Ok(0)),
        ("nothing", String::new(), Err("no_time")),
        ("a space", " ".to_owned(), Err("no_time")),
        ("words", "signature".to_owned(), Err("no_time")),
        ("no time", format!("v1={GOOD}"), Err("no_time")),
        ("an empty time", format!("t=,v1={GOOD}"), Err("invalid_time")),
        ("two times", format!("t={TIME},t=1,v1={GOOD}"), Err("repeated_time")),
        ("the time twice", format!("t={TIME},t={TIME},v1={GOOD}"), Err("repeated_time")),
        ("a time with a plus", format!("t=+{TIME},v1={GOOD}"), Err("invalid_time")),
        ("a negative time", format!("t=-{TIME},v1={GOOD}"), Err("invalid_time")),
        ("a time with a space", format!("t= {TIME},v1={GOOD}"), Err("invalid_time")),
        ("a time with a fraction", format!("t={TIME}.0,v1={GOOD}"), Err("invalid_time")),
        ("a hexadecimal time", format!("t=0x6AB13B80,v1={GOOD}"), Err("invalid_time")),
        ("a time in words", format!("t=now,v1={GOOD}"), Err("invalid_time")),
        ("foreign digits", format!("t=\u{661}\u{667},v1={GOOD}"), Err("invalid_time")),
        ("a time beyond 64 bits", format!("t=99999999999999999999,v1={GOOD}"), Err("invalid_time")),
        ("a time of 13 digits", format!("t={TIME}000,v1={GOOD}"), Err("invalid_time")),
        ("a time with a zero before", format!("t=0{TIME},v1={GOOD}"), Err("signature_mismatch")),
        ("another time", format!("t={},v1={GOOD}", TIME + 1), Err("signature_mismatch")),
        ("no signature", format!("t={TIME}"), Err("no_signature")),
        ("v0 alone", of(&format!("v0={GOOD}")), Err("no_signature")),
        ("V1", of(&format!("V1={GOOD}")), Err("no_signature")),
        ("a space in the scheme", of(&format!("v1 ={GOOD}")), Err("no_signature")),
        ("semicolons", format!("t={TIME};v1={GOOD}"), Err("invalid_time")),
        ("an empty signature", of("v1="), Err("signature_mismatch")),
        ("undecodable alone", of(&format!("v1={}", "z".repeat(64))), Err("signature_mismatch")),
        ("cut by a digit", of(&format!("v1={}", &GOOD[..63])), Err("signature_mismatch")),
        ("cut by a byte", of(&format!("v1={}", &GOOD[..62])), Err("signature_mismatch")),
        ("its first byte", of("v1=e7"), Err("signature_mismatch")),
        ("longer by a byte", of(&format!("v1={GOOD}00")), Err("signature_mismatch")),
        ("with 0x", of(&format!("v1=0x{GOOD}")), Err("signature_mismatch")),
        ("in quotes", of(&format!("v1=\"{GOOD}\"")), Err("signature_mismatch")),
        ("with a second value", of(&format!("v1={GOOD}={GOOD}")), Err("signature_mismatch")),
        ("all zeros", of(&format!("v1={}", "0".repeat(64))), Err("signature_mismatch")),
        ("by another tenant", of(&format!("v1={BY_OTHER_TENANT}")), Err("signature_mismatch")),
        ("by the empty secret", of(&format!("v1={BY_EMPTY}")), Err("signature_mismatch")),
        ("by the secret without whsec_", of(&format!("v1={BY_BARE}")), Err("signature_mismatch")),
        ("by SHA-1", of(&format!("v1={BY_SHA1}")), Err("signature_mismatch")),
        ("over the body alone", of(&format!("v1={WITHOUT_TIME}")), Err("signature_mismatch")),
        ("a header too long", long, Err("header_too_long")),
    ];
    assert!(cases.len() >= 45, "{}", cases.len());
    for (name, header, expected) in cases {
        assert_eq!(outcome(header, BODY.as_bytes(), &[SECRET], TIME), *expected, "{name}: {header}");
    }
}

#[test]
fn the_body_counts_as_it_came() {
    let header = format!("t={TIME},v1={GOOD}");
    let spaced = BODY.replace(':', ": ");
    let reordered = r#"{"object":"event","id":"evt_1","type":"invoice.paid"}"#;
    let escaped = BODY.replace("evt_1", "\\u0065vt_1");
    for (name, body) in [
        ("written anew", spaced.into_bytes()),
        ("in another order", reordered.as_bytes().to_vec()),
        ("escaped", escaped.into_bytes()),
        ("with a byte order mark", [b"\xef\xbb\xbf", BODY.as_bytes()].concat()),
        ("with a line feed behind", [BODY.as_bytes(), b"\n"].concat()),
        ("with a line end behind", [BODY.as_bytes(), b"\r\n"].concat()),
        ("with a byte behind", [BODY.as_bytes(), b"\0"].concat()),
        ("with a byte before", [b" ", BODY.as_bytes()].concat()),
        ("cut", BODY.as_bytes()[..BODY.len() - 1].to_vec()),
        ("empty", Vec::new()),
        ("in UTF-16", BODY.encode_utf16().flat_map(u16::to_le_bytes).collect()),
    ] {
        assert_eq!(outcome(&header, &body, &[SECRET], TIME), Err("signature_mismatch"), "{name}");
    }
    // The border between time and body is the first full stop: what stands there cannot be moved.
    let moved = format!("0.{BODY}");
    let shorter = format!("t={},v1={GOOD}", TIME / 10);
    assert_eq!(outcome(&shorter, moved.as_bytes(), &[SECRET], TIME), Err("signature_mismatch"));
}

#[test]
fn any_secret_of_the_account_may_have_signed() {
    let by = |signature: &str| format!("t={TIME},v1={signature}");
    let rolled = format!("t={TIME},v1={GOOD},v1={BY_OLD}");
    for (name, header, secrets, expected) in [
        ("the second", by(BY_OLD), &[SECRET, OLD_SECRET][..], Ok(1)),
        ("the first", by(GOOD), &[SECRET, OLD_SECRET], Ok(0)),
        ("both", rolled.clone(), &[SECRET, OLD_SECRET], Ok(0)),
        ("both, one known", rolled.clone(), &[OLD_SECRET], Ok(0)),
        ("one that was revoked", by(BY_OLD), &[SECRET], Err("signature_mismatch")),
        ("none", by(GOOD), &[], Err("no_secret")),
        ("an empty secret", by(BY_EMPTY), &[""], Err("no_secret")),
        ("an empty secret beside a good one", by(BY_EMPTY), &["", SECRET], Err("signature_mismatch")),
        ("a good one beside an empty", by(GOOD), &["", SECRET], Ok(1)),
        (
            "a secret with a line feed",
            by(GOOD),
            &["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"],
            Err("signature_mismatch"),
        ),
    ] {
        assert_eq!(outcome(&header, BODY.as_bytes(), secrets, TIME), expected, "{name}");
    }
}

#[test]
fn old_and_future_signatures_are_refused() {
    let header = format!("t={TIME},v1={GOOD}");
    let at = |seconds: i64| outcome(&header, BODY.as_bytes(), &[SECRET], seconds);
    for seconds in [0, 1, 299, 300] {
        assert_eq!((at(TIME + seconds), at(TIME - seconds)), (Ok(0), Ok(0)), "{seconds}");
    }
    for seconds in [301, 3_600, 86_400 * 365, TIME] {
        assert_eq!((at(TIME + seconds), at(TIME - seconds)), (Err("too_old"), Err("too_new")), "{seconds}");
    }
    assert_eq!(at(i64::MAX / 1_000), Err("too_old"));
    // Only what is signed is told to be old: a forger learns nothing of our clock.
    let forged = format!("t=1,v1={BY_OTHER_TENANT}");
    assert_eq!(outcome(&forged, BODY.as_bytes(), &[SECRET], TIME), Err("signature_mismatch"));
    let millisecond = Timestamp::from_seconds(TIME + 300).plus_millis(1);
    assert!(verify(&header, BODY.as_bytes(), &[SECRET], millisecond).is_err());
}

#[test]
fn headers_made_here_are_accepted() {
    assert_eq!(header_for(SECRET, BODY.as_bytes(), Timestamp::from_seconds(TIME)), format!("t={TIME},v1={GOOD}"));
}

/// Random numbers that are the same in every run (xorshift).
fn draw(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 33).unwrap()
}

#[test]
fn a_million_mutations_are_refused() {
    let mut random = 0x9e37_79b9_7f4a_7c15;
    let good: [u8; SIGNATURE_BYTES] = hex::decode(GOOD).unwrap().try_into().unwrap();
    let time = TIME.to_string();
    let now = Timestamp::from_seconds(TIME);
    let mut refused = 0_u32;
    while refused < 1_000_000 {
        let (mut signature, mut time, mut body) = (good.to_vec(), time.clone().into_bytes(), BODY.as_bytes().to_vec());
        match draw(&mut random) % 8 {
            // One bit, one byte, several bits of the signature.
            0..=2 => signature[draw(&mut random) % SIGNATURE_BYTES] ^= 1 << (draw(&mut random) % 8),
            3 => (0..4).for_each(|_| {
                signature[draw(&mut random) % SIGNATURE_BYTES] = u8::try_from(draw(&mut random) % 256).unwrap()
            }),
            // Cut, or longer.
            4 => signature.truncate(draw(&mut random) % SIGNATURE_BYTES),
            5 => signature.push(u8::try_from(draw(&mut random) % 256).unwrap()),
            // Another time within the tolerance, another body.
            6 => time = (TIME + i64::try_from(draw(&mut random) % 600).unwrap() - 300).to_string().into_bytes(),
            _ => {
                let at = draw(&mut random) % body.len();
                body[at] ^= 1 << (draw(&mut random) % 8);
            }
        }
        if signature == good && time == TIME.to_string().as_bytes() && body == BODY.as_bytes() {
            continue;
        }
        let header = format!("t={},v1={}", String::from_utf8(time).unwrap(), hex::encode(&signature));
        assert_eq!(verify(&header, &body, &[SECRET], now), Err(InvalidSignature::Mismatch), "{header}");
        refused += 1;
    }
}
