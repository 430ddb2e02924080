use super::*;

/// The verdict on bytes that come in parts: where each part ends is given.
fn verdict(bytes: &[u8], ends: &[usize]) -> (Result<(), Violation>, Place) {
    let mut framing = Framing::default();
    let mut from = 0;
    for end in ends.iter().copied().chain([bytes.len()]) {
        if let Err(refusal) = framing.follow(&bytes[from..end]) {
            assert!(refusal.at < end - from, "a refusal lies within the bytes given last");
            return (Err(refusal.violation), framing.place);
        }
        from = end;
    }
    (Ok(()), framing.place)
}

/// The same verdict at once, byte by byte, and split in two and in three at every position.
#[track_caller]
fn check(bytes: &str, expected: Result<Place, Violation>) {
    let bytes = bytes.as_bytes();
    let seen = |ends: &[usize]| {
        let (verdict, place) = verdict(bytes, ends);
        verdict.map(|()| place)
    };
    assert_eq!(seen(&[]), expected, "{}", bytes.escape_ascii());
    let every: Vec<usize> = (1..bytes.len()).collect();
    assert_eq!(seen(&every), expected, "byte by byte: {}", bytes.escape_ascii());
    for &first in &every {
        assert_eq!(seen(&[first]), expected, "split at {first}: {}", bytes.escape_ascii());
        let second = first + (bytes.len() - first) / 2;
        assert_eq!(seen(&[first, second]), expected, "split at {first}, {second}: {}", bytes.escape_ascii());
    }
}

const START: Place = Place::RequestLine { empty_lines: 0 };

#[test]
fn plain_requests_pass_and_end_where_they_end() {
    for requests in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost:\r\n\r\n",
        "GET http://a/x?y=z HTTP/1.1\r\nHost:\ta:80 \t\r\nX-Empty:\r\nX: \"a\tb\", c\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\n\r\n\0\n ",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED \r\n\r\n5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0000f\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\0\r\n0\r\nX-Sum: 1\r\n\r\n",
    ] {
        check(requests, Ok(START));
        check(&format!("{requests}{requests}"), Ok(START));
        check(&format!("{requests}GET / HTTP/1.1\r\nHost: a\r\n"), Ok(Place::Field));
    }
}

#[test]
fn a_body_is_no_request() {
    let body = "GET / HTTP/1.1\nContent-Length: x\r\nTransfer-Encoding: y\r\n\r\n";
    let length = body.len();
    check(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"), Ok(START));
    check(
        &format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"),
        Ok(START),
    );
    check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1234", Ok(Place::Body { left: 5 }));
}

/// Heads with one more line, behind a good request or as the first.
#[track_caller]
fn refused(lines: &str, violation: Violation) {
    check(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n0\r\n\r\n"), Err(violation));
    check(&format!("GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n"), Err(violation));
}

#[test]
fn two_ways_to_tell_the_length_are_refused() {
    refused("Content-Length: 5\r\nTransfer-Encoding: chunked", Violation::TwoLengths);
    refused("Transfer-Encoding: chunked\r\nContent-Length: 5", Violation::TwoLengths);
    refused("Transfer-Encoding: chunked\r\nX: y\r\nCONTENT-LENGTH: 0", Violation::TwoLengths);
    refused("Content-Length: 5\r\nContent-Length: 6", Violation::ContentLength);
    refused("Content-Length: 5\r\nContent-Length: 5", Violation::ContentLength);
    refused("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Violation::TransferEncoding);
    refused("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", Violation::TransferEncoding);
}

#[test]
fn lengths_are_digits() {
    let long = "1".repeat(19);
    for value in ["", "+5", "-5", "5, 5", "5,6", "0x5", "5 5", "5;", "five", "5.0", "\u{0665}", long.as_str()] {
        refused(&format!("Content-Length: {value}"), Violation::ContentLength);
    }
}

#[test]
fn chunked_is_the_only_encoding_and_new() {
    for value in
        ["", "xchunked", "chunked, chunked", "gzip, chunked", "identity", "chunked;q=1", "\"chunked\"", "chunke"]
    {
        refused(&format!("Transfer-Encoding: {value}"), Violation::TransferEncoding);
    }
    check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Err(Violation::TransferEncoding));
}

#[test]
fn field_names_are_tokens_right_before_their_colon() {
    for line in ["Transfer-Encoding : chunked", "Content-Length\t: 5", "X", ": x", "(X): y", "X Y: z", "X\u{e4}: y"] {
        refused(line, Violation::FieldName);
    }
    refused("X: a\r\n b", Violation::FoldedField);
    refused("Transfer-Encoding:\r\n\tchunked", Violation::TransferEncoding);
    refused("X: a\r\n\tContent-Length: 5", Violation::FoldedField);
}

#[test]
fn lines_end_in_one_way() {
    refused("X: a\nContent-Length: 5", Violation::BareLineEnd);
    refused("X: a\rContent-Length: 5", Violation::BareLineEnd);
    refused("X: a\r\r\nContent-Length: 5", Violation::BareLineEnd);
    for control in ["\0", "\u{1}", "\u{b}", "\u{c}", "\u{1b}", "\u{7f}"] {
        refused(&format!("X: a{control}b"), Violation::ControlCharacter);
        refused(&format!("Transfer-Encoding: {control}chunked"), Violation::ControlCharacter);
    }
    check("GET / HTTP/1.1\nHost: a\r\n\r\n", Err(Violation::BareLineEnd));
    check("GET / HTTP/1.1\r\nHost: a\r\n\n", Err(Violation::BareLineEnd));
    check("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(Violation::BareLineEnd));
}

#[test]
fn a_host_is_named_once() {
    refused("Host: b", Violation::Host);
    refused("Host: a", Violation::Host);
    check("GET / HTTP/1.1\r\n\r\n", Err(Violation::Host));
    for host in ["a b", "a, b", "a/b", "user@a", "a?b", "a#b", "\u{e4}"] {
        check(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), Err(Violation::Host));
    }
}

#[test]
fn request_lines_have_three_parts() {
    for line in [
        "GET /",
        "GET  / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/2.0",
        "GET / HTTP/1.2",
        "GET / http/1.1",
        "GET /\thttp://b/ HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET / x HTTP/1.1",
        "CONNECT a:80 HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        check(&format!("{line}\r\nHost: a\r\n\r\n"), Err(Violation::RequestLine));
    }
    check("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(Violation::RequestLine));
}

#[test]
fn chunks_are_exact() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = |body: &str, violation| check(&format!("{head}{body}"), Err(violation));
    for size in ["", "g", "-1", "+1", "0x1", " 1", "1 ", "1 ;x", "1,", "1_0", "10000000000000000", "0000000000000001"] {
        chunked(&format!("{size}\r\nh\r\n0\r\n\r\n"), Violation::Chunk);
    }
    chunked("1\nh\r\n0\r\n\r\n", Violation::BareLineEnd);
    chunked("1;x\nh\r\n0\r\n\r\n", Violation::BareLineEnd);
    chunked("1;\0\r\nh\r\n0\r\n\r\n", Violation::ControlCharacter);
    chunked("1\r\nhh\r\n0\r\n\r\n", Violation::Chunk);
    chunked("1\r\nh0\r\n\r\n", Violation::Chunk);
    chunked("1\r\nh\n0\r\n\r\n", Violation::BareLineEnd);
    chunked(&format!("1;{}\r\nh\r\n0\r\n\r\n", "x".repeat(MAX_CHUNK_LINE)), Violation::Chunk);
    chunked("0\r\nContent-Length: 5\r\n\r\n", Violation::Trailer);
    chunked("0\r\nTransfer-Encoding: chunked\r\n\r\n", Violation::Trailer);
    chunked("0\r\nX : y\r\n\r\n", Violation::FieldName);
    chunked("0\r\n X: y\r\n\r\n", Violation::FoldedField);
}

#[test]
fn long_lines_do_not_fill_the_memory() {
    let mut framing = Framing::default();
    let part = vec![b'x'; 64 * 1024];
    let refusal = (0..64).find_map(|_| framing.follow(&part).err());
    assert_eq!(refusal.map(|refusal| refusal.violation), Some(Violation::LongLine));
    assert!(framing.line.capacity() <= 2 * MAX_LINE);
}

#[test]
fn control_characters_are_found_wherever_they_stand() {
    for length in 0..40 {
        let plain: Vec<u8> =
            [b'a', b'\t', b' ', b'~', 0x80, 0xff, b'!', b'\t'].into_iter().cycle().take(length).collect();
        assert_eq!(first_control(&plain), None);
        for at in 0..length {
            for control in (0..32).filter(|byte| *byte != b'\t').chain([0x7f]) {
                let mut bytes = plain.clone();
                bytes[at] = control;
                assert_eq!(first_control(&bytes), Some(at), "{control} at {at} of {length}");
            }
        }
    }
}
