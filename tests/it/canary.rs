//! A canary in every secret: none is found in logs, metrics, answers, reports, errors or arguments, whatever goes wrong.

use std::{fs, net::SocketAddr, process::Stdio, time::Duration};

use churnd::embedded::nats::{NatsOptions, NatsServer};
use serde_json::json;

use crate::{
    sentry::FakeSentry,
    support::{
        Cluster,
        cluster::{ACCOUNT, APP_ROLE, as_role, tools},
        daemon::{self, Daemon},
        eventually, http,
    },
};

const SOON: Duration = Duration::from_secs(60);
/// Everything that libraries have to say, too.
const LOUD: &str = "trace,async_nats=trace,hyper=trace,hyper_util=trace,rustls=trace,tokio_postgres=trace,h2=trace,\
                    axum=trace,lettre=trace,sentry=trace";

/// What stands in every canary; beside it the secret's own name.
const MARK: &str = "canary8d1f";

fn canary(name: &str) -> String {
    format!("{MARK}{name}")
}

/// Settings that are secrets by themselves, so that they fit their form.
fn secrets() -> Vec<(String, String)> {
    let plain = [
        ("STRIPE__WEBHOOK_SECRET", format!("whsec_{}", canary("stripewebhook"))),
        ("STRIPE__API_KEY", format!("sk_test_{}", canary("stripeapi"))),
        ("SENDGRID__API_KEY", format!("SG.{}", canary("sendgrid"))),
        ("SLACK__CLIENT_ID", canary("slackid")),
        ("SLACK__CLIENT_SECRET", canary("slacksecret")),
        ("SMTP__PASSWORD", canary("smtp")),
        ("SMTP__USER", "alerts".to_owned()),
        ("SMTP__HOST", "127.0.0.1".to_owned()),
        ("SMTP__PORT", "9".to_owned()),
        ("SMTP__TLS", "none".to_owned()),
        ("SENDING__MAIL_FROM", "alerts@example.com".to_owned()),
        ("SENDING__INTERNAL_RECEIVERS", "127.0.0.1:9".to_owned()),
        ("SENDING__TIMEOUT_SECONDS", "2".to_owned()),
        ("HTTP__PUBLIC_URL", "https://churn.example.com".to_owned()),
    ];
    plain.into_iter().map(|(name, value)| (format!("CHURND__{name}"), value)).collect()
}

/// Servers whose passwords are canaries, and how churnd gets in.
struct Guarded {
    cluster: Cluster,
    nats: NatsServer,
    settings: Vec<(String, String)>,
}

impl Guarded {
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        let role = format!("guarded_{}", uuid::Uuid::new_v4().simple());
        let sql = cluster.sql().await;
        let create = format!("CREATE ROLE {role} LOGIN IN ROLE {APP_ROLE} PASSWORD '{}'", canary("postgres"));
        sql.batch_execute(&create).await.unwrap();
        let users = format!("authorization {{ users: [ {{ user: u, password: {} }} ] }}", canary("nats"));
        let options = NatsOptions { extra: users, ..NatsOptions::new(cluster.dir().join("guarded")) };
        let nats = NatsServer::start(&tools(), options).unwrap();
        let (_, host) = as_role(&cluster.superuser_url(), &role)
            .rsplit_once('@')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        let mut settings = secrets();
        settings.push(("CHURND__NATS__URL".into(), nats.url().replace("//", &format!("//u:{}@", canary("nats")))));
        settings.push(("CHURND__POSTGRES__URL".into(), format!("postgres://{role}:{}@{host}", canary("postgres"))));
        settings.push(("CHURND__LOG__LEVEL".into(), LOUD.into()));
        daemon::command(&["provision"], settings.clone()).await;
        Self { cluster, nats, settings }
    }

    fn daemon(&self) -> daemon::Builder {
        let builder = Daemon::builder(&self.cluster, "one");
        self.settings.iter().fold(builder, |builder, (name, value)| builder.setting(name, value))
    }
}

#[track_caller]
fn check_clean(what: &str, text: &str, also: &[&str]) {
    for secret in also.iter().copied().chain([MARK]) {
        let place = text.to_lowercase().find(&secret.to_lowercase());
        let around = place.map(|at| {
            let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
            text[line..].lines().next().unwrap_or_default().to_owned()
        });
        assert_eq!(around, None, "`{secret}` is in {what}");
    }
}

/// Asks for all kinds of things, with secrets in all the places where they come; gives what was answered.
async fn ask_around(at: SocketAddr, secret: &str, cookie: &str) -> String {
    let key = ("x-api-key", secret);
    let wrong = canary("wrongkey");
    let bot = json!({"name": "slack", "target": {"kind": "slack", "token": format!("xoxb-{}", canary("bot")), "channel": "#x"}});
    let hook = json!({"name": "hook", "target": {"kind": "webhook", "url": format!("http://127.0.0.1:9/{}", canary("hook")),
        "secrets": [format!("whsec_{}", data_encoding::BASE64.encode(canary("hooksecretthatislong").as_bytes()))]}});
    let mail = json!({"name": "mail", "target": {"kind": "email", "to": ["a@example.com"]}});
    let mut answers = String::new();
    let mut asked = vec![];
    for channel in [bot, hook, mail, json!({"name": "odd", "target": {"kind": "slack", "url": canary("odd")}})] {
        asked.push(("POST", "/api/channels".to_owned(), vec![key], channel.to_string()));
    }
    for (method, path, headers, body) in [
        ("GET", "/api/customers?cursor=x", vec![key], ""),
        ("GET", "/api/channels", vec![key], ""),
        ("GET", "/api/customers", vec![("x-api-key", wrong.as_str())], ""),
        ("GET", "/api/nothing", vec![key], ""),
        ("POST", "/api/track", vec![key], "{"),
        ("POST", "/api/track", vec![key], r#"{"customerId":"c","event":"login"}"#),
        ("POST", "/webhooks/stripe", vec![key, ("stripe-signature", "t=1,v1=00")], "{}"),
        ("GET", "/dashboard", vec![("cookie", cookie)], ""),
        ("GET", "/dashboard/account", vec![("cookie", cookie)], ""),
        ("GET", "/dashboard/channels", vec![("cookie", cookie)], ""),
        (
            "POST",
            "/dashboard/sign-in",
            vec![("content-type", "application/x-www-form-urlencoded")],
            "key=canary8d1fguess",
        ),
        ("GET", "/metrics", vec![], ""),
        ("GET", "/readyz", vec![], ""),
        ("GET", "/health", vec![], ""),
    ] {
        asked.push((method, path.to_owned(), headers, body.to_owned()));
    }
    for (method, path, headers, body) in asked {
        let mut headers = headers;
        if method == "POST" && !headers.iter().any(|(name, _)| *name == "content-type") {
            headers.push(("content-type", "application/json"));
        }
        let answer = http::request(at, method, &path, &headers, body.as_bytes()).await.unwrap();
        answers += &format!("{method} {path}: {} {}\n", answer.status, answer.text());
        if path == "/api/channels" && answer.status == 201 {
            let test = format!("{path}/{}/test", answer.json()["id"].as_str().unwrap());
            let tested = http::request(at, "POST", &test, &[key], b"").await.unwrap();
            answers += &format!("{test}: {} {}\n", tested.status, tested.text());
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told_by_a_daemon_that_works_or_fails() {
    let guarded = Guarded::start().await;
    let sentry = FakeSentry::start().await;
    let dsn = sentry.dsn.replace("publickey", &canary("sentry"));
    let mut daemon = guarded.daemon().setting("SENTRY_DSN", &dsn).start().await;
    let at = daemon.address();
    let secret =
        daemon::command(&["key", "add", "--account", ACCOUNT, "--kind", "secret"], guarded.settings.clone()).await;
    let secret = secret.trim();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let ready = async || {
        let answer = http::request(at, "POST", "/dashboard/sign-in", &form, format!("key={secret}").as_bytes()).await;
        let answer = answer.map_err(|error| error.to_string())?;
        answer.header("set-cookie").map(|cookie| cookie.split(';').next().unwrap().to_owned()).ok_or(answer.text())
    };
    let cookie = eventually(SOON, ready).await;
    let session = cookie.split_once('=').unwrap().1;
    // Keys are shown by their beginning; the rest is the secret.
    let tail = &secret[secret.len() - 24..];

    let mut answers = ask_around(at, secret, &cookie).await;
    guarded.nats.kill();
    answers += &ask_around(at, secret, &cookie).await;
    let stuck =
        async || if daemon.log().text().contains("lost the connection to nats") { Ok(()) } else { Err("not yet") };
    eventually(SOON, stuck).await;
    check_clean("the answers", &answers, &[tail, session]);
    assert!(answers.contains("churnd_build_info") && answers.contains("503"), "{answers}");
    let process = format!("/proc/{}", daemon.pid());
    check_clean("the arguments", &fs::read_to_string(format!("{process}/cmdline")).unwrap(), &[tail]);
    daemon.stop().await;
    let log = daemon.log().text();
    assert!(log.contains("\"level\":\"TRACE\"") || log.contains("\"TRACE\""), "the log is loud");
    check_clean("the log", &log, &[tail, session]);
    let reports: String = sentry.received().iter().map(|report| report.body.clone()).collect();
    // The report's own head names the DSN, whose key is what Sentry knows us by.
    let reports = reports.replace(&canary("sentry"), "");
    check_clean("the reports", &reports, &[tail, session]);
}

/// Runs a command to its end, however that is, and gives all that it printed.
async fn outcome(arguments: &[&str], settings: &[(String, String)]) -> (bool, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_churnd"));
    command
        .args(arguments)
        .envs(settings.iter().cloned())
        .env("CHURND__HTTP__LISTEN", "127.0.0.1:0")
        .stdin(Stdio::null());
    let output = tokio::time::timeout(SOON, command.kill_on_drop(true).output()).await.unwrap().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), printed)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told_by_a_command_that_works_or_fails() {
    let guarded = Guarded::start().await;
    let changed = |changes: &[(&str, String)]| {
        let mut settings = guarded.settings.clone();
        settings.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        settings.push(("CHURND__NATS__CONNECT_PATIENCE_SECONDS".into(), "0".into()));
        settings.push(("CHURND__POSTGRES__CONNECT_PATIENCE_SECONDS".into(), "0".into()));
        settings
    };
    let url = |scheme: &str, rest: &str| format!("{scheme}://u:{}@{rest}", canary("broken"));
    let postgres = guarded.cluster.superuser_url();
    let (_, postgres_host) = postgres.split_once('@').unwrap();
    let key_file = guarded.cluster.dir().join("key.pem");
    fs::write(&key_file, format!("-----BEGIN PRIVATE KEY-----\n{}\n", canary("tlskey"))).unwrap();
    let key_file = key_file.display().to_string();
    let credentials = guarded.cluster.dir().join("nats.creds");
    fs::write(&credentials, canary("creds")).unwrap();
    let situations = [
        (true, changed(&[])),
        (false, changed(&[("CHURND__NATS__URL", url("nats", "127.0.0.1:1"))])),
        (
            false,
            changed(&[("CHURND__NATS__URL", guarded.nats.url().replace("//", &format!("//u:{}@", canary("wrong"))))]),
        ),
        (false, changed(&[("CHURND__NATS__URL", url("nats", "127.0.0.1:port"))])),
        (false, changed(&[("CHURND__NATS__NKEY_SEED", format!("SU{}", canary("seed")))])),
        (false, changed(&[("CHURND__NATS__CREDENTIALS_FILE", credentials.display().to_string())])),
        (false, changed(&[("CHURND__POSTGRES__URL", url("postgres", "127.0.0.1:1/x"))])),
        (false, changed(&[("CHURND__POSTGRES__URL", url("postgres", postgres_host))])),
        (false, changed(&[("CHURND__POSTGRES__URL", url("postgres", "db.example/x"))])),
        (false, changed(&[("CHURND__POSTGRES__URL", url("postgres", "db.example:port/x?sslmode=maybe"))])),
        (
            false,
            changed(&[
                ("CHURND__HTTP__TLS_KEY_FILE", key_file.clone()),
                ("CHURND__HTTP__TLS_CERTIFICATE_FILE", key_file),
                ("SENTRY_DSN", canary("dsn")),
            ]),
        ),
    ];
    for (works, settings) in &situations {
        for arguments in [&["check"][..], &["doctor"], &["doctor", "--json"], &["migrate", "--dry-run"], &["run"]] {
            if *works && arguments == ["run"] {
                continue;
            }
            let (succeeded, printed) = outcome(arguments, settings).await;
            // Without a daemon the doctor finds partitions that nobody owns.
            assert!(!works || succeeded || arguments[0] == "doctor", "{arguments:?}: {printed}");
            check_clean(&format!("what {arguments:?} printed"), &printed, &[]);
        }
    }
}
