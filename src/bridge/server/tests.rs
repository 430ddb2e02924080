//! The guard and the parser behind it agree on every request: on drawn streams, good ones and damaged ones, in drawn parts.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::{collection::vec, prelude::*, sample::select};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{framing::Framing, guard::Guarded};

/// One request: its bytes and its body.
#[derive(Clone, Debug)]
struct Drawn {
    bytes: Vec<u8>,
    body: Vec<u8>,
}

fn drawn_request() -> impl Strategy<Value = Drawn> {
    let fields = select(vec!["", "Accept: */*\r\n", "X-Empty:\r\n", "Cookie: a=b; c=\"d\"\r\nTE: trailers\r\n"]);
    let body = vec(select(b"\r\n\0 a0:GET".to_vec()), 0..40);
    (fields, body, 0..4_u8, 1..9_usize).prop_map(|(fields, body, kind, piece)| {
        let head = format!("POST /x HTTP/1.1\r\nHost: churnd\r\n{fields}");
        match kind {
            0 => Drawn { bytes: format!("{head}\r\n").into_bytes(), body: Vec::new() },
            1 => {
                let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
                Drawn { bytes: [head.as_bytes(), &body].concat(), body }
            }
            _ => {
                let mut bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
                for chunk in body.chunks(piece) {
                    let extension = if kind == 2 { "" } else { ";x=y" };
                    bytes.extend(format!("{:X}{extension}\r\n", chunk.len()).into_bytes());
                    bytes.extend([chunk, b"\r\n"].concat());
                }
                bytes.extend(if kind == 2 { &b"0\r\n\r\n"[..] } else { b"000\r\nX-Sum: 1\r\n\r\n" });
                Drawn { bytes, body }
            }
        }
    })
}

/// Something is put in, overwritten or left out somewhere.
fn damage() -> impl Strategy<Value = (prop::sample::Index, u8, &'static str)> {
    let pieces = vec![
        "\n",
        "\r",
        "\r\n",
        "\r\n\r\n",
        "\0",
        " ",
        "\t",
        ":",
        ",",
        "0",
        "5",
        "+",
        "\u{b}",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    (any::<prop::sample::Index>(), 0..3_u8, select(pieces))
}

fn damaged(mut bytes: Vec<u8>, damages: &[(prop::sample::Index, u8, &'static str)]) -> Vec<u8> {
    for (place, kind, piece) in damages {
        let at = place.index(bytes.len());
        let end = if *kind == 0 { at } else { (at + piece.len()).min(bytes.len()) };
        bytes.splice(at..end, if *kind == 2 { Vec::new() } else { piece.as_bytes().to_vec() });
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// The bodies of the requests that reach the service; `None` for one that breaks off.
fn served(bytes: &[u8], parts: &[prop::sample::Index]) -> Vec<Option<Vec<u8>>> {
    let mut ends: Vec<usize> = parts.iter().map(|part| part.index(bytes.len() + 1)).collect();
    ends.sort_unstable();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&bodies);
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let body = request.into_body().collect().await.ok().map(|body| body.to_bytes().to_vec());
            seen.lock().unwrap().push(body);
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
        }
    });
    runtime.block_on(async {
        let (client, server) = tokio::io::duplex(1 << 16);
        let (mut reading, mut writing) = tokio::io::split(client);
        // What was sent before the client ended its side is answered still: else drawn timing decides how much is.
        let guarded = TokioIo::new(Guarded::new(server, |_| {}));
        let connection = http1::Builder::new().half_close(true).serve_connection(guarded, service);
        let send = async move {
            let mut from = 0;
            for end in ends.into_iter().chain([bytes.len()]) {
                // The server may have closed.
                if writing.write_all(&bytes[from..end]).await.is_err() {
                    break;
                }
                from = end;
                tokio::task::yield_now().await;
            }
            drop(writing.shutdown().await);
        };
        let take = async move { drop(reading.read_to_end(&mut Vec::new()).await) };
        let (_ended, (), ()) = tokio::join!(connection, send, take);
    });
    let bodies = bodies.lock().unwrap();
    bodies.clone()
}

/// How many heads end before anything is refused, and whether anything is.
fn heads(bytes: &[u8]) -> (usize, bool) {
    let mut framing = Framing::default();
    let mut heads = 0;
    for byte in bytes {
        let was_in_head = framing.is_in_head();
        if framing.follow(std::slice::from_ref(byte)).is_err() {
            return (heads, true);
        }
        heads += usize::from(was_in_head && !framing.is_in_head());
    }
    (heads, false)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn good_requests_arrive_as_they_were_sent(requests in vec(drawn_request(), 1..6), parts in vec(any::<prop::sample::Index>(), 0..8)) {
        let bytes: Vec<u8> = requests.iter().flat_map(|request| request.bytes.clone()).collect();
        let sent: Vec<_> = requests.iter().map(|request| Some(request.body.clone())).collect();
        prop_assert_eq!(heads(&bytes), (requests.len(), false));
        prop_assert_eq!(served(&bytes, &parts), sent);
    }

    #[test]
    fn the_parser_sees_no_request_that_the_guard_does_not(
        requests in vec(drawn_request(), 1..5),
        damages in vec(damage(), 1..4),
        parts in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let bytes = damaged(requests.iter().flat_map(|request| request.bytes.clone()).collect(), &damages);
        let (heads, _) = heads(&bytes);
        let served = served(&bytes, &parts);
        prop_assert!(served.len() <= heads, "{} requests of {heads} in {}", served.len(), bytes.escape_ascii());
        // A body that breaks off is the last thing read.
        prop_assert!(served.iter().rev().skip(1).all(Option::is_some));
    }
}
