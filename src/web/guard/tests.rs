//! Nothing inside is reached: no literal in any notation, no name, no answer that changes.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_util::task::TaskTracker;

use super::*;

const LIMITS: Limits = Limits { time: Duration::from_secs(5), body_bytes: 1_000 };

/// Answers every connection with 200 and counts them.
async fn listener(at: &str) -> Option<(SocketAddr, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind(at).await.ok()?;
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    TaskTracker::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut bytes = [0; 4096];
            if stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {
                let head = "HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1/\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
                // Who only looks may have gone.
                drop(stream.write_all(head.as_bytes()).await);
            }
        }
    });
    Some((address, count))
}

/// Names with the answers that they give one after the other, and the addresses that were connected to.
#[derive(Default)]
struct Fake {
    names: HashMap<&'static str, Vec<Vec<&'static str>>>,
    asked: Mutex<HashMap<String, usize>>,
    connected: Mutex<Vec<String>>,
    leads_to: Option<SocketAddr>,
}

impl Network for Fake {
    fn resolve(&self, host: String, port: u16) -> Boxed<Vec<SocketAddr>> {
        let mut asked = self.asked.lock().unwrap();
        let count = asked.entry(host.clone()).or_default();
        let answers = self.names.get(host.as_str()).cloned().unwrap_or_default();
        let answer = answers.get(*count).or(answers.last()).cloned().unwrap_or_default();
        *count += 1;
        let addresses = answer.iter().map(|text| SocketAddr::new(text.parse().unwrap(), port)).collect();
        Box::pin(async move { Ok(addresses) })
    }

    fn connect(&self, address: SocketAddr) -> Boxed<TcpStream> {
        self.connected.lock().unwrap().push(address.ip().to_string());
        let to = self.leads_to;
        Box::pin(async move {
            match to {
                Some(to) => TcpStream::connect(to).await,
                None => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }
}

async fn ask(web: &GuardedWeb, url: &str) -> Result<u16, String> {
    let target = web.target(url).map_err(|error| error.to_string())?;
    let answer = web.send(&target, Request::post("/").body(Full::default()).unwrap()).await;
    answer.map(|answer| answer.status().as_u16()).map_err(|error| {
        assert!(is_forbidden(&error) || error.is_transient(), "{error}");
        if is_forbidden(&error) { format!("forbidden: {error}") } else { error.to_string() }
    })
}

#[tokio::test]
async fn no_notation_of_an_inner_address_is_connected_to() {
    let mut counts = Vec::new();
    let mut ports = Vec::new();
    for at in ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
        let Some((address, count)) = listener(at).await else { continue };
        counts.push(count);
        ports.push(address.port());
    }
    let web = GuardedWeb::new(LIMITS, Vec::new()).unwrap();
    let hosts = [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "127.0.0.2",
        "127.255.255.254",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7f.1",
        "0x7f.0x0.0x0.0x1",
        "0177.0.0.1",
        "0177.0.0.01",
        "0x7F.0.0.1",
        "127.0.0.1.",
        "1.0.0.127.in-addr.arpa.localhost",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "foo.localhost",
        "printer.local",
        "metadata.google.internal",
        "db",
        "0",
        "0.0.0.0",
        "0x0",
        "00",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[::7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[fe80::1]",
        "[fe80::1%25lo]",
        "[::1%25lo]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fec0::1]",
        "[ff02::1]",
        "[100::1]",
        "[5f00::1]",
        "[2001:db8::1]",
        "10.0.0.1",
        "10.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "192.168.1",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "100.64.0.1",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "127.0.0.1%00.example.com",
        "%31%32%37.0.0.1",
    ];
    let mut tried = 0;
    for host in hosts {
        for port in &ports {
            for scheme in ["https", "http"] {
                let url = format!("{scheme}://{host}:{port}/");
                let told = ask(&web, &url).await;
                assert!(told.is_err(), "{url}: {told:?}");
                tried += 1;
            }
        }
    }
    let first = ports[0];
    for url in [
        format!("https://me@127.0.0.1:{first}/"),
        format!("https://me:pw@example.com:{first}/"),
        format!("https://example.com@127.0.0.1:{first}/"),
        format!("https://127.0.0.1:{first}\\@example.com/"),
        format!("https:127.0.0.1:{first}/"),
        format!("https:///127.0.0.1:{first}/"),
        format!("https:\\\\127.0.0.1:{first}/"),
        format!("https://\t127.0.0.1:{first}/"),
        format!("http://example.com:{first}/"),
        format!("ftp://127.0.0.1:{first}/"),
        format!("gopher://127.0.0.1:{first}/"),
        "file:///etc/passwd".to_owned(),
        "data:,x".to_owned(),
        "//127.0.0.1/".to_owned(),
        String::new(),
    ] {
        assert!(ask(&web, &url).await.is_err(), "{url}");
        tried += 1;
    }
    assert!(tried > 400, "{tried}");
    let reached: usize = counts.iter().map(|count| count.load(Ordering::SeqCst)).sum();
    assert_eq!(reached, 0, "something inside was connected to");
    // The listeners do count.
    drop(TcpStream::connect((Ipv4Addr::LOCALHOST, first)).await.unwrap());
    let (address, _) = listener("127.0.0.1:0").await.unwrap();
    let own = GuardedWeb::new(LIMITS, vec![address.to_string().parse().unwrap()]).unwrap();
    assert_eq!(
        ask(&own, &format!("http://{address}/")).await,
        Ok(307),
        "named receivers are reached, redirects not followed"
    );
}

#[tokio::test]
async fn only_public_addresses_of_a_name_are_connected_to() {
    let names = HashMap::from([
        ("inside.example.com", vec![vec!["127.0.0.1"]]),
        ("mapped.example.com", vec![vec!["::ffff:10.0.0.1", "64:ff9b::7f00:1", "fe80::1", "::1"]]),
        ("mixed.example.com", vec![vec!["10.0.0.1", "8.8.8.8", "::1"]]),
        ("rebinding.example.com", vec![vec!["8.8.4.4"], vec!["127.0.0.1"], vec!["169.254.169.254"]]),
        ("none.example.com", vec![vec![]]),
    ]);
    let fake = Arc::new(Fake { names, ..Fake::default() });
    let web = GuardedWeb::over(LIMITS, Vec::new(), Arc::clone(&fake) as Arc<dyn Network>).unwrap();
    for (name, forbidden) in [
        ("inside", true),
        ("mapped", true),
        ("mixed", false),
        ("rebinding", false),
        ("rebinding", true),
        ("rebinding", true),
        ("none", false),
    ] {
        let told = ask(&web, &format!("https://{name}.example.com/")).await.unwrap_err();
        assert_eq!(told.starts_with("forbidden"), forbidden, "{name}: {told}");
    }
    assert_eq!(*fake.connected.lock().unwrap(), ["8.8.8.8", "8.8.4.4"]);
}

#[tokio::test]
async fn a_name_of_a_named_receiver_is_asked_wherever_it_leads() {
    let (address, count) = listener("127.0.0.1:0").await.unwrap();
    let names = HashMap::from([("alerts.corp", vec![vec!["10.0.0.7"]])]);
    let fake = Arc::new(Fake { names, leads_to: Some(address), ..Fake::default() });
    let own = vec!["alerts.corp:8080".parse().unwrap()];
    let web = GuardedWeb::over(LIMITS, own, Arc::clone(&fake) as Arc<dyn Network>).unwrap();
    assert_eq!(ask(&web, "http://alerts.corp:8080/hook").await, Ok(307));
    assert_eq!(count.load(Ordering::SeqCst), 1);
    for other in
        ["http://alerts.corp/", "https://alerts.corp:8081/", "https://alerts.corp.:8080/", "http://x.alerts.corp:8080/"]
    {
        assert!(ask(&web, other).await.is_err(), "{other}");
    }
    assert_eq!(*fake.connected.lock().unwrap(), ["10.0.0.7"]);
}

#[test]
fn receivers_are_hosts_with_ports() {
    for good in ["10.1.2.3:8080", "alerts.corp:443", "[::1]:9", "localhost:80"] {
        assert!(good.parse::<Receiver>().is_ok(), "{good}");
    }
    for bad in [
        "",
        "alerts.corp",
        "10.1.2.3",
        "alerts.corp:x",
        "alerts.corp:99999",
        "me@alerts.corp:1",
        "a/b:1",
        "https://a:1",
        "*:1",
    ] {
        assert!(bad.parse::<Receiver>().is_err(), "{bad}");
    }
}
