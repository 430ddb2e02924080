//! Who may do what: every route that the running daemon declares, with every kind of key, from every place a key can stand.
//!
//! The routes come from `/openapi.json`, so a new one is tested the day it is added. Routes that are not in that document,
//! or ask for no key, must stand in the lists here.

use std::{collections::BTreeSet, fs, net::SocketAddr, path::Path, time::Duration};

use churnd::event::time::Timestamp;
use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::support::{
    Cluster, Feed, Observer,
    cluster::ACCOUNT,
    daemon::Daemon,
    eventually,
    http::{self, Response},
    webhooks::quiet,
};

const SOON: Duration = Duration::from_secs(60);

/// Routes for operators, and the document itself: no keys, not in the document.
const UNDOCUMENTED: [&str; 5] = ["/livez", "/readyz", "/health", "/metrics", "/openapi.json"];
/// Routes of the document that ask for no key, or look for it in a way of their own.
const OPEN: [&str; 4] = ["/track.js", "/webhooks/stripe", "/slack/install", "/slack/oauth/callback"];
/// Files that make routes without the document: operators', those that speak Segment's protocol, and the dashboard's.
const ROUTE_MAKERS: [&str; 4] = ["dashboard/mod.rs", "health.rs", "router.rs", "segment/mod.rs"];
/// Pages for people, by session instead of key: `dashboard.rs` asks for each of them.
const PAGES: &str = "dashboard/mod.rs";

/// A route as the daemon declares it.
#[derive(Debug)]
struct Route {
    method: String,
    path: String,
    /// The kinds of keys that open it.
    keys: BTreeSet<String>,
}

impl Route {
    fn is_open(&self) -> bool {
        OPEN.contains(&self.path.as_str()) || self.path.starts_with("/v1/")
    }

    /// Its path with the parameters filled in.
    fn about(&self, ids: &Ids) -> String {
        let filled = match self.path.as_str() {
            path if path.starts_with("/api/customers/") => path.replace("{id}", &ids.customer),
            path if path.starts_with("/api/erasures/") => path.replace("{id}", &ids.erasure),
            path => path.replace("{interventionId}", &ids.intervention).replace("{channelId}", &ids.channel),
        };
        assert!(!filled.contains('{'), "{filled}: say here what it is about");
        filled
    }

    /// A body that the route takes, where it needs one.
    fn body(&self) -> &'static str {
        match (self.method.as_str(), self.path.as_str()) {
            ("POST", "/api/track") => r#"{"customerId":"tracked","event":"login"}"#,
            ("POST", "/api/track/batch") => r#"{"events":[{"customerId":"tracked","event":"login"}]}"#,
            ("POST", "/api/identify") => r#"{"customerId":"tracked"}"#,
            ("POST", path) if path.ends_with("/interventions") => r#"{"action":"call"}"#,
            ("PATCH", "/api/interventions/{interventionId}") => r#"{"outcome":"saved"}"#,
            ("GET" | "DELETE", _) => "",
            _ => "{}",
        }
    }
}

/// What a route may be about.
#[derive(Clone, Debug)]
struct Ids {
    customer: String,
    intervention: String,
    erasure: String,
    channel: String,
}

impl Ids {
    /// Ids that never were.
    fn unknown() -> Self {
        let never = "00000000-0000-4000-8000-000000000000";
        Self {
            customer: "c-18".to_owned(),
            intervention: never.to_owned(),
            erasure: never.to_owned(),
            channel: never.to_owned(),
        }
    }
}

/// A daemon, who asks it, and what there is to be seen.
struct Scene {
    at: SocketAddr,
    routes: Vec<Route>,
    secret: String,
    publishable: String,
    revoked: String,
    foreign: String,
    /// What there is in the account.
    known: Ids,
    _daemon: Daemon,
}

impl Scene {
    async fn set(cluster: &Cluster) -> Self {
        let (feed, observer) = (Feed::open(cluster).await, Observer::of(cluster).await);
        let daemon = Daemon::start(cluster, "one").await;
        let at = daemon.address();
        cluster.command(&["account", "add", "other"]).await;
        let key = async |account: &str, kind: &str| {
            cluster.command(&["key", "add", "--account", account, "--kind", kind]).await.trim().to_owned()
        };
        let revoked = key(ACCOUNT, "secret").await;
        let (secret, publishable) = (key(ACCOUNT, "secret").await, key(ACCOUNT, "publishable").await);
        let foreign = key("other", "secret").await;
        feed.event("c-17", &json!({"event": "payment_failed"})).await;
        quiet(&observer, SOON).await;
        let headers = [("x-api-key", revoked.as_str())];
        let path = "/api/customers/c-17/interventions";
        let begun = http::request(at, "POST", path, &headers, br#"{"action":"call"}"#).await.unwrap();
        assert_eq!(begun.status, 201, "a key counts until it is revoked: {}", begun.text());
        let listed = cluster.command(&["key", "list", "--account", ACCOUNT, "--json"]).await;
        let id_of_revoked = listed
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .find(|line| revoked.starts_with(line["prefix"].as_str().unwrap()))
            .unwrap()["id"]
            .as_str()
            .unwrap()
            .to_owned();
        cluster.command(&["key", "revoke", &id_of_revoked]).await;
        eventually(Duration::from_secs(5), async || {
            let answer = http::request(at, "GET", "/api/customers", &headers, b"").await.unwrap();
            if answer.status == 401 { Ok(()) } else { Err(format!("it still counts: {}", answer.status)) }
        })
        .await;
        let document = http::get(at, "/openapi.json").await.unwrap().json();
        let erased = http::request(at, "DELETE", "/api/customers/gone", &[("x-api-key", &secret)], b"").await.unwrap();
        let mail = br#"{"name":"team","target":{"kind":"email","to":["team@example.com"]}}"#;
        let keyed = [("x-api-key", secret.as_str())];
        let added = http::request(at, "POST", "/api/channels", &keyed, mail).await.unwrap();
        assert_eq!(added.status, 201, "{}", added.text());
        let id_of = |answer: &Response| answer.json()["id"].as_str().unwrap().to_owned();
        let known = Ids {
            customer: "c-17".to_owned(),
            intervention: id_of(&begun),
            erasure: id_of(&erased),
            channel: id_of(&added),
        };
        Self { at, routes: routes(&document), secret, publishable, revoked, foreign, known, _daemon: daemon }
    }

    async fn ask(&self, route: &Route, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        http::request(self.at, &route.method, path, &all, route.body().as_bytes()).await.unwrap()
    }
}

fn routes(document: &Value) -> Vec<Route> {
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "put", "post", "delete", "patch", "head", "options", "trace"] {
            let Some(operation) = item.get(method) else { continue };
            let schemes = operation["security"].as_array().cloned().unwrap_or_default();
            let keys = schemes.iter().flat_map(|scheme| scheme.as_object().unwrap().keys().cloned()).collect();
            routes.push(Route { method: method.to_uppercase(), path: path.clone(), keys });
        }
    }
    routes
}

/// A request with a key in one of the places that a key can stand in.
struct Keyed {
    place: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
}

/// The same key in every place.
fn everywhere(key: &str, path: &str) -> [Keyed; 4] {
    let header = |place, name, value| Keyed { place, path: path.to_owned(), headers: vec![(name, value)] };
    let separator = if path.contains('?') { '&' } else { '?' };
    [
        header("x-api-key", "x-api-key", key.to_owned()),
        header("bearer", "authorization", format!("Bearer {key}")),
        header("basic", "authorization", format!("Basic {}", BASE64.encode(format!("{key}:").as_bytes()))),
        Keyed { place: "query", path: format!("{path}{separator}key={key}"), headers: Vec::new() },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_opens_to_the_keys_that_it_declares_and_to_no_others() {
    let cluster = Cluster::start().await;
    let scene = Scene::set(&cluster).await;
    assert!(scene.routes.len() >= 13, "{:?}", scene.routes);
    let (unknown, mut asked) = (Ids::unknown(), 0);
    for route in &scene.routes {
        let name = format!("{} {}", route.method, route.path);
        if route.is_open() {
            continue;
        }
        assert!(!route.keys.is_empty(), "{name} asks for no key: give it `security`, or name it in OPEN");
        let known: BTreeSet<String> = ["publishableKey", "secretKey"].map(str::to_owned).into();
        assert!(route.keys.is_subset(&known), "{name}: {:?}", route.keys);
        // What destroys is asked about a customer that is not there.
        let path = route.about(if route.method == "GET" { &scene.known } else { &unknown });

        let answer = scene.ask(route, &path, &[]).await;
        assert_eq!((answer.status, &answer.json()["code"]), (401, &json!("missing_key")), "{name} without a key");
        let mut cut = scene.secret.clone();
        cut.pop();
        let opens = |kind: &str| route.keys.contains(kind);
        for (whose, key, expected) in [
            ("malformed", "nonsense", Some((401, "invalid_key"))),
            ("cut", cut.as_str(), Some((401, "invalid_key"))),
            ("revoked", scene.revoked.as_str(), Some((401, "invalid_key"))),
            ("publishable", scene.publishable.as_str(), (!opens("publishableKey")).then_some((403, "publishable_key"))),
            ("secret", scene.secret.as_str(), None),
            ("foreign", scene.foreign.as_str(), None),
        ] {
            for Keyed { place, path, headers } in everywhere(key, &path) {
                let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let answer = scene.ask(route, &path, &headers).await;
                asked += 1;
                let text = format!("{name} with a {whose} key as {place}: {} {}", answer.status, answer.text());
                match expected {
                    Some((status, code)) => {
                        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{text}");
                    }
                    None => assert!(!matches!(answer.status, 401 | 403 | 429 | 500..), "{text}"),
                }
            }
        }
    }
    assert!(asked >= 13 * 24, "only {asked} questions were asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_of_another_account_answers_as_one_that_never_was() {
    let cluster = Cluster::start().await;
    let scene = Scene::set(&cluster).await;
    let mut compared = 0;
    for route in scene.routes.iter().filter(|route| route.path.contains('{') && !route.is_open()) {
        let mut answers = Vec::new();
        for ids in [scene.known.clone(), Ids::unknown()] {
            let answer = scene.ask(route, &route.about(&ids), &[("x-api-key", &scene.foreign)]).await;
            let told = |(name, value): &(String, String)| {
                (!matches!(name.as_str(), "x-request-id" | "date" | "content-length"))
                    .then(|| format!("{name}: {}", masked(value, &ids)))
            };
            let headers: Vec<String> = answer.headers.iter().filter_map(told).collect();
            answers.push((answer.status, headers, masked(&answer.text(), &ids)));
        }
        assert_eq!(answers[0], answers[1], "{} {}", route.method, route.path);
        compared += 1;
    }
    assert!(compared >= 7, "only {compared} routes name a customer");
    // And the owner still sees what was there.
    for path in ["/api/customers/c-17/risk", "/api/customers/c-17/interventions", "/api/customers/c-17/export"] {
        let answer = http::request(scene.at, "GET", path, &[("x-api-key", &scene.secret)], b"").await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let open =
        http::request(scene.at, "GET", "/api/interventions", &[("x-api-key", &scene.secret)], b"").await.unwrap();
    assert_eq!(open.json()["interventions"].as_array().unwrap().len(), 1, "nobody else closed it");
}

/// A text without what differs between any two answers: the id that was asked about, ids made for the answer, instants.
fn masked(text: &str, ids: &Ids) -> String {
    let differs =
        |word: &str| word == ids.customer || uuid::Uuid::parse_str(word).is_ok() || word.parse::<Timestamp>().is_ok();
    let words = text.split_inclusive(['"', '/', '`']).map(|piece| {
        let (word, end) = piece.split_at(piece.trim_end_matches(['"', '/', '`']).len());
        if differs(word) { format!("…{end}") } else { piece.to_owned() }
    });
    words.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_the_document_is_known_here() {
    let cluster = Cluster::start().await;
    let daemon = Daemon::start(&cluster, "one").await;
    let document = http::get(daemon.address(), "/openapi.json").await.unwrap().json();
    for path in UNDOCUMENTED {
        let answer = http::get(daemon.address(), path).await.unwrap();
        assert_eq!(answer.status, 200, "{path}");
        assert!(document["paths"].get(path).is_none(), "{path} is documented now: take it out of the list");
    }
}

/// Routes are made by `routes!`, which puts them into the document; the few that are not are in few files.
#[test]
fn no_route_is_made_past_the_document() {
    let bridge = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bridge");
    let (mut folders, mut complaints) = (vec![bridge.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&bridge).unwrap().display().to_string();
            let text = fs::read_to_string(&path).unwrap();
            if name.ends_with(".rs") && !name.contains("tests") {
                complaints.extend(routes_past_the_document(&name, &text));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn routes_past_the_document(file: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for maker in [".route(", ".route_service(", ".nest(", ".nest_service(", ".fallback_service("] {
        for (at, _) in text.match_indices(maker) {
            let argument = text[at + maker.len()..].trim_start();
            let path = argument.strip_prefix('"').and_then(|rest| rest.split('"').next());
            let known = match path {
                Some(path) => {
                    let page = file == PAGES && (path == "/dashboard" || path.starts_with("/dashboard/"));
                    page || UNDOCUMENTED.contains(&path) || path.starts_with("/v1/")
                }
                // A route of a request, or of a list of paths.
                None => argument.starts_with("&request") || file == "segment/mod.rs",
            };
            if !known || (path.is_some() && !ROUTE_MAKERS.contains(&file)) {
                let line = text[..at].lines().count();
                complaints
                    .push(format!("src/bridge/{file}:{line}: a route that is not in the document: use `routes!`"));
            }
        }
    }
    complaints
}

#[test]
fn a_route_past_the_document_is_found() {
    assert_eq!(routes_past_the_document("health.rs", r#"routes.route("/livez", get(livez))"#), Vec::<String>::new());
    assert_eq!(routes_past_the_document("segment/mod.rs", "routes.route(&path, post(t))"), Vec::<String>::new());
    for (file, text) in [
        ("health.rs", r#"routes.route("/secrets", get(all))"#),
        ("track.rs", r#"routes.route("/livez", get(livez))"#),
        ("track.rs", r#"routes.route("/dashboard/all", get(all))"#),
        ("dashboard/mod.rs", r#"routes.route("/api/all", get(all))"#),
        ("track.rs", "routes.route(PATH, get(all))"),
        ("track.rs", r#"routes.nest("/v2", other)"#),
    ] {
        assert_eq!(routes_past_the_document(file, text).len(), 1, "{text}");
    }
}
