//! The dashboard's door: who comes in, what they are told, and what of others they cannot see or do.

use std::{collections::BTreeSet, fs, net::SocketAddr, path::Path, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    Cluster, Feed, Observer,
    cluster::ACCOUNT,
    daemon::Daemon,
    eventually,
    http::{self, Response},
    raw,
    webhooks::quiet,
};

const SOON: Duration = Duration::from_secs(60);
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
/// Pages that are there for those who are not signed in.
const OPEN: [&str; 3] = ["/dashboard/", "/dashboard/sign-in", "/dashboard/assets/{name}"];

async fn key(cluster: &Cluster, account: &str, kind: &str) -> String {
    cluster.command(&["key", "add", "--account", account, "--kind", kind]).await.trim().to_owned()
}

async fn sign_in_with(at: SocketAddr, body: &str, headers: &[(&str, &str)]) -> Response {
    let mut all = vec![FORM];
    all.extend_from_slice(headers);
    http::request(at, "POST", "/dashboard/sign-in", &all, body.as_bytes()).await.unwrap()
}

/// Somebody who signed in.
struct Visitor {
    at: SocketAddr,
    cookie: String,
    csrf: String,
}

impl Visitor {
    async fn of(at: SocketAddr, key: &str) -> Self {
        let answer = sign_in_with(at, &format!("key={key}"), &[]).await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let mut visitor = Self { at, cookie, csrf: String::new() };
        let page = visitor.get("/dashboard").await;
        assert_eq!(page.status, 200, "{}", page.text());
        let text = page.text();
        let (_, rest) = text.split_once("name=\"csrf\" value=\"").unwrap();
        visitor.csrf = rest.split('"').next().unwrap().to_owned();
        visitor
    }

    async fn get(&self, path: &str) -> Response {
        http::request(self.at, "GET", path, &[("cookie", &self.cookie)], b"").await.unwrap()
    }

    async fn post(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Response {
        let mut all = vec![FORM, ("cookie", self.cookie.as_str())];
        all.extend_from_slice(headers);
        http::request(self.at, "POST", path, &all, body.as_bytes()).await.unwrap()
    }

    /// Sends a form as a page does.
    async fn send(&self, path: &str, fields: &str) -> Response {
        self.post(path, &format!("csrf={}&{fields}", self.csrf), &[]).await
    }
}

/// The paths of all pages, from where they are declared.
fn pages() -> Vec<(String, bool)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bridge/dashboard/mod.rs");
    let text = fs::read_to_string(source).unwrap();
    let declared = text.split(".route(\"").skip(1).map(|rest| {
        let (path, rest) = rest.split_once('"').unwrap();
        let (handlers, _) = rest.split_once('\n').unwrap();
        (path.to_owned(), handlers.contains("post("))
    });
    declared.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_opens_without_a_session_and_all_forbid_what_pages_need_not() {
    let cluster = Cluster::start().await;
    let daemon = Daemon::start(&cluster, "one").await;
    let at = daemon.address();
    let declared = pages();
    assert!(declared.len() >= 10, "{declared:?}");
    for (path, posts) in &declared {
        let asked =
            path.replace("{*path}", "nowhere").replace("{token}", "c-17").replace("{id}", "x").replace("{alert}", "y");
        for (method, cookie) in [("GET", ""), ("GET", "churnd_session=guessed"), ("POST", "churnd_session=guessed")] {
            let headers = [("cookie", cookie), FORM];
            let answer = http::request(at, method, &asked.replace("{name}", "x"), &headers, b"").await.unwrap();
            let text = format!("{method} {path}: {} {}", answer.status, answer.text());
            let policy = answer.header("content-security-policy").unwrap_or_else(|| panic!("{text}"));
            assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{text}");
            assert!(policy.ends_with("form-action 'self'; base-uri 'none'; frame-ancestors 'none'"), "{text}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{text}");
            assert_eq!(answer.header("referrer-policy"), Some("same-origin"), "{text}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{text}");
            if OPEN.contains(&path.as_str()) {
                continue;
            }
            let is_refused = match answer.status {
                303 => answer.header("location").unwrap().starts_with("/dashboard/sign-in"),
                405 => (method == "GET") == *posts,
                _ => false,
            };
            assert!(is_refused, "{text}");
        }
    }
    // Whoever has followed a link finds it again after the sign-in; a script is told plainly.
    let answer = http::get(at, "/dashboard/customers/a=40b?page=2").await.unwrap();
    let back = "/dashboard/sign-in?next=%2Fdashboard%2Fcustomers%2Fa%3D40b%3Fpage%3D2";
    assert_eq!(answer.header("location"), Some(back));
    let part = http::request(at, "GET", "/dashboard", &[("x-dashboard-part", "1")], b"").await.unwrap();
    assert_eq!(part.status, 401);
    let text = http::get(at, "/dashboard/sign-in").await.unwrap().text();
    for asset in ["dashboard.", "icon."] {
        let (_, rest) = text.split_once(&format!("/dashboard/assets/{asset}")).unwrap();
        let path = format!("/dashboard/assets/{asset}{}", rest.split('"').next().unwrap());
        let answer = http::get(at, &path).await.unwrap();
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some("public, max-age=31536000, immutable")));
    }
    assert!(!text.contains("<script>") && !text.contains("style="), "nothing stands within a page: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_key_opens_a_session_that_ends_with_it() {
    let cluster = Cluster::start().await;
    let daemon = Daemon::start(&cluster, "one").await;
    let at = daemon.address();
    let (secret, publishable) = (key(&cluster, ACCOUNT, "secret").await, key(&cluster, ACCOUNT, "publishable").await);
    let mut mistyped = secret.clone();
    mistyped.pop();
    for (shown, said) in [
        (publishable.as_str(), "This is a publishable key"),
        (mistyped.as_str(), "This key is not valid"),
        ("", "This key is not valid"),
    ] {
        let answer = sign_in_with(at, &format!("key={shown}"), &[]).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (403, None));
        let text = answer.text();
        assert!(text.contains(said) && (shown.is_empty() || !text.contains(shown)), "{text}");
    }
    for (next, leads_to) in [
        ("%2Fdashboard%2Fcustomers%2Fc-1%3Fpage%3D2", "/dashboard/customers/c-1?page=2"),
        ("%2F%2Fevil.example", "/dashboard"),
        ("https%3A%2F%2Fevil.example%2Fdashboard", "/dashboard"),
        ("%2Fdashboard%2F%2Fevil.example", "/dashboard"),
    ] {
        let answer = sign_in_with(at, &format!("key={secret}&next={next}"), &[]).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some(leads_to)));
    }
    let answer = sign_in_with(at, &format!("key={secret}"), &[]).await;
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("churnd_session=") && cookie.ends_with("; HttpOnly; SameSite=Lax"), "{cookie}");
    assert!(cookie.contains("; Path=/dashboard; "), "{cookie}");

    let (one, two) = (Visitor::of(at, &secret).await, Visitor::of(at, &secret).await);
    assert_ne!((&one.cookie, &one.csrf), (&two.cookie, &two.csrf));
    assert_eq!(one.send("/dashboard/sign-out", "").await.status, 303);
    assert_eq!(one.get("/dashboard").await.status, 303, "whoever signed out is out");
    assert_eq!(two.get("/dashboard").await.status, 200);
    let observer = Observer::of(&cluster).await;
    let stored = "SELECT count(*) FROM dashboard_sessions WHERE encode(hash, 'escape') LIKE '%' || $$COOKIE$$ || '%'";
    let shown = two.cookie.split_once('=').unwrap().1;
    assert_eq!(observer.number(&stored.replace("COOKIE", shown)).await, Ok(0), "no cookie stands in the database");

    let listed = cluster.command(&["key", "list", "--account", ACCOUNT, "--json"]).await;
    let mut line = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let id = line.find(|line| secret.starts_with(line["prefix"].as_str().unwrap())).unwrap()["id"].clone();
    cluster.command(&["key", "revoke", id.as_str().unwrap()]).await;
    eventually(Duration::from_secs(5), async || match two.get("/dashboard").await.status {
        303 => Ok(()),
        status => Err(format!("the session goes on: {status}")),
    })
    .await;
    assert!(!daemon.log().text().contains(&secret), "no key stands in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_cookie_is_for_tls_alone_whoever_speaks_it() {
    let cluster = Cluster::start().await;
    let secret = key(&cluster, ACCOUNT, "secret").await;
    let name_of = |answer: &Response| answer.header("set-cookie").unwrap().split('=').next().unwrap().to_owned();
    let body = format!("key={secret}");
    let proxied = Daemon::builder(&cluster, "one").setting("CHURND__HTTP__TRUSTED_PROXIES", "127.0.0.1").start().await;
    let over = sign_in_with(proxied.address(), &body, &[("x-forwarded-proto", "https")]).await;
    assert_eq!(name_of(&over), "__Secure-churnd_session");
    assert!(over.header("set-cookie").unwrap().ends_with("; Secure"));
    assert_eq!(name_of(&sign_in_with(proxied.address(), &body, &[]).await), "churnd_session");
    drop(proxied);
    let announced = Daemon::builder(&cluster, "one").setting("CHURND__HTTP__PUBLIC_URL", "https://churn.example");
    let announced = announced.start().await;
    let own = [("origin", "https://churn.example")];
    assert_eq!(name_of(&sign_in_with(announced.address(), &body, &own).await), "__Secure-churnd_session");
    let foreign = [("origin", "https://churn.example.evil")];
    assert_eq!(sign_in_with(announced.address(), &body, &foreign).await.status, 403);
    drop(announced);
    let plain = Daemon::start(&cluster, "one").await;
    let lying = [("x-forwarded-proto", "https")];
    assert_eq!(name_of(&sign_in_with(plain.address(), &body, &lying).await), "churnd_session", "nobody vouches for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_forms_of_this_session_from_here_change_anything_and_only_what_is_the_account_s() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let daemon = Daemon::start(&cluster, "one").await;
    let at = daemon.address();
    cluster.command(&["account", "add", "other"]).await;
    feed.event("c-17", &json!({"event": "payment_failed"})).await;
    feed.event("<script>x</script>", &json!({"event": "payment_failed"})).await;
    quiet(&observer, SOON).await;
    let own = Visitor::of(at, &key(&cluster, ACCOUNT, "secret").await).await;
    let other = Visitor::of(at, &key(&cluster, "other", "secret").await).await;

    let list = own.get("/dashboard").await.text();
    assert!(list.contains("/dashboard/customers/c-17\""), "{list}");
    assert!(list.contains("&#60;script&#62;x&#60;/script&#62;") && !list.contains("<script>x"), "{list}");
    assert!(other.get("/dashboard").await.text().contains("No customers yet"));
    let page = own.get("/dashboard/customers/c-17").await;
    assert_eq!(page.status, 200);
    let text = page.text();
    assert!(text.contains("Recent payment failure") && text.contains("Ask for a new payment method"), "{text}");
    // Another account's customer answers exactly as one that never was.
    let told = |answer: &Response| (answer.status, answer.text());
    let (foreign, never) = (other.get("/dashboard/customers/c-17").await, other.get("/dashboard/customers/c-18").await);
    assert_eq!((foreign.status, told(&foreign)), (404, told(&never)));

    let begin = "/dashboard/customers/c-17/interventions";
    let begun = "SELECT count(*) FROM interventions";
    let good = format!("csrf={}&action=call", own.csrf);
    for (visitor, body, headers, status) in [
        (&own, "action=call".to_owned(), vec![], 403),
        (&own, format!("csrf={}&action=call", other.csrf), vec![], 403),
        (&own, good.clone(), vec![("origin", "https://evil.example")], 403),
        (&own, good.clone(), vec![("origin", "null")], 403),
        (&own, good.clone(), vec![("sec-fetch-site", "cross-site")], 403),
        (&own, good.clone(), vec![("sec-fetch-site", "same-site")], 403),
        (&own, format!("csrf={}&action=+", own.csrf), vec![], 400),
        (&own, format!("csrf={}&action={}", own.csrf, "x".repeat(201)), vec![], 400),
        (&own, format!("csrf={}&action=call&type=No!", own.csrf), vec![], 400),
        (&other, format!("csrf={}&action=call", other.csrf), vec![], 404),
    ] {
        let answer = visitor.post(begin, &body, &headers).await;
        assert_eq!(answer.status, status, "{body} {headers:?}: {}", answer.text());
        assert!(answer.header("content-type").unwrap().starts_with("text/html"), "errors are pages");
    }
    assert_eq!(observer.number(begun).await, Ok(0), "nothing was begun");
    let host = at.to_string();
    let from_here = format!("http://{host}");
    let here = [("origin", from_here.as_str()), ("sec-fetch-site", "same-origin")];
    for _ in 0..2 {
        let twice = format!("{good}&id=0197a5b8-0000-7000-8000-000000000001&type=call&note=soon");
        assert_eq!(own.post(begin, &twice, &here).await.status, 303);
    }
    assert_eq!(observer.number(begun).await, Ok(1), "the same form begins one");

    let end = format!("{begin}/0197a5b8-0000-7000-8000-000000000001/close");
    assert_eq!(other.send(&end, "outcome=lost").await.status, 404);
    assert_eq!(own.send(&end, "outcome=great").await.status, 400);
    assert_eq!(own.send(&end.replace("c-17", "c-18"), "outcome=lost").await.status, 404);
    assert_eq!(own.send(&end, "outcome=saved").await.status, 303);
    assert_eq!(own.send(&end, "outcome=lost").await.status, 303);
    let saved = "SELECT count(*) FROM interventions WHERE outcome = 'saved' AND score_at_end = 40 AND type = 'call'";
    assert_eq!(observer.number(saved).await, Ok(1), "who closed it first decided");

    let acknowledge = eventually(SOON, async || {
        let page = own.get("/dashboard/customers/c-17").await.text();
        let form = page.split("action=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        form.into_iter().find(|path| path.ends_with("/acknowledge")).ok_or(page)
    })
    .await;
    assert_eq!(other.send(&acknowledge, "").await.status, 404);
    let made_up = acknowledge.replace("/acknowledge", "x/acknowledge");
    assert_eq!(own.send(&made_up, "").await.status, 303);
    let noted = "SELECT count(*) FROM acknowledgements WHERE account = 'acme' AND token = 'c-17'";
    assert_eq!(observer.number(noted).await, Ok(0));
    for _ in 0..2 {
        assert_eq!(own.send(&acknowledge, "").await.status, 303);
    }
    assert_eq!(observer.number(noted).await, Ok(1));
    assert!(own.get("/dashboard/customers/c-17").await.text().contains("Acknowledged by key sk_"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_tries_so_many_keys_and_no_more() {
    let cluster = Cluster::start().await;
    let daemon = Daemon::start(&cluster, "one").await;
    let mut statuses = BTreeSet::new();
    for _ in 0..25 {
        statuses.insert(sign_in_with(daemon.address(), "key=sk_nonsense", &[]).await.status);
    }
    assert_eq!(statuses, [403, 429].into());
    let secret = key(&cluster, ACCOUNT, "secret").await;
    let mut elsewhere = raw::connect_from("127.0.0.9".parse().unwrap(), daemon.address()).await.unwrap();
    let body = format!("key={secret}");
    let request = format!(
        "POST /dashboard/sign-in HTTP/1.1\r\nhost: churnd\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    elsewhere.write_all(request.as_bytes()).await.unwrap();
    let answer = raw::until_closed(&mut elsewhere).await;
    assert_eq!(raw::statuses(&answer), [303], "others are not kept out: {answer}");
}

/// Reads what a page is told until it holds a text.
async fn told(stream: &mut TcpStream, said: &mut String, wanted: &str) {
    let reading = async {
        let mut part = [0; 4096];
        while !said.contains(wanted) {
            let length = stream.read(&mut part).await.unwrap();
            assert!(length > 0, "the stream ended: {said}");
            said.push_str(&String::from_utf8_lossy(&part[..length]));
        }
    };
    assert!(timeout(SOON, reading).await.is_ok(), "never told {wanted}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_pages_are_told_of_their_account_alone_until_the_server_stops() {
    let cluster = Cluster::start().await;
    let (feed, observer) = (Feed::open(&cluster).await, Observer::of(&cluster).await);
    let mut daemon = Daemon::start(&cluster, "one").await;
    let at = daemon.address();
    cluster.command(&["account", "add", "other"]).await;
    let own = Visitor::of(at, &key(&cluster, ACCOUNT, "secret").await).await;
    let other = Visitor::of(at, &key(&cluster, "other", "secret").await).await;
    let mut streams = Vec::new();
    for visitor in [&own, &other] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let cookie = &visitor.cookie;
        let request = format!("GET /dashboard/live HTTP/1.1\r\nhost: churnd\r\ncookie: {cookie}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = String::new();
        told(&mut stream, &mut said, "event: ready").await;
        assert!(said.contains("content-type: text/event-stream") && said.contains("retry: 2000"), "{said}");
        streams.push((stream, said));
    }
    let (mut foreign, mut heard) = streams.pop().unwrap();
    let (mut stream, mut said) = streams.pop().unwrap();
    told(&mut stream, &mut said, "event: changed\ndata: *\n").await;
    feed.event("c-17", &json!({"event": "payment_failed"})).await;
    told(&mut stream, &mut said, "event: changed\ndata: c-17\n").await;
    // A sign of life comes after it, so that the other has had its chance to hear.
    told(&mut foreign, &mut heard, ": still here").await;
    assert!(!heard.contains("c-17"), "{heard}");
    quiet(&observer, SOON).await;
    // Whoever signs out is told so.
    assert_eq!(other.send("/dashboard/sign-out", "").await.status, 303);
    told(&mut foreign, &mut heard, "event: signed-out").await;
    // An open page does not keep the server from stopping.
    assert!(daemon.stop().await.success());
    raw::until_closed(&mut stream).await;
}
