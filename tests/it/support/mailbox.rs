//! A mail server that speaks as much SMTP as is needed: EHLO, STARTTLS, AUTH PLAIN and LOGIN, MAIL, RCPT, DATA, QUIT.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use data_encoding::BASE64;
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::daemon::in_background;

/// Who may send, where that is asked.
pub(crate) const USER: &str = "churnd";
pub(crate) const PASSWORD: &str = "correct horse";

/// How a mail server behaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manners {
    /// Encryption is offered, and needed before anything else.
    pub(crate) starttls: bool,
    /// A user and a password are needed.
    pub(crate) auth: bool,
    /// At this command (`EHLO`, `AUTH`, `MAIL`, `RCPT`, `DATA`, or `.` for the end of a mail) it does something else.
    pub(crate) odd_at: &'static str,
    /// What: a line to answer, or nothing for ever, or the end of the connection.
    pub(crate) oddity: Oddity,
}

/// What a mail server does instead of what it should.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Oddity {
    /// This answer.
    Says(&'static str),
    /// No answer.
    #[default]
    Hangs,
    /// The end of the connection.
    Cuts,
}

/// A mail as it was taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mail {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    /// Headers and body, as they came.
    pub(crate) data: String,
    /// It came encrypted.
    pub(crate) encrypted: bool,
    /// Who logged in.
    pub(crate) user: String,
}

impl Mail {
    /// A header's value, unfolded.
    pub(crate) fn header(&self, name: &str) -> String {
        let head = self.data.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n ", " ");
        let found = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
        found.unwrap_or_default()
    }
}

/// A running mail server.
pub(crate) struct Mailbox {
    address: SocketAddr,
    mails: Arc<Mutex<Vec<Mail>>>,
    certificate: Option<PathBuf>,
}

impl Mailbox {
    /// Starts; a certificate for `localhost` is left in the directory where encryption is offered.
    pub(crate) async fn start(manners: Manners, directory: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, mails) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Mail>>>::default());
        let (mut acceptor, mut certificate) = (None, None);
        if manners.starttls {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let file = directory.join("mailbox.pem");
            std::fs::write(&file, made.cert.pem()).unwrap();
            let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
            let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key)
                .unwrap();
            (acceptor, certificate) = (Some(TlsAcceptor::from(Arc::new(config))), Some(file));
        }
        let kept = Arc::clone(&mails);
        in_background(async move {
            while let Ok((stream, _)) = listener.accept().await {
                in_background(serve(stream, manners.clone(), acceptor.clone(), Arc::clone(&kept)));
            }
        });
        Self { address, mails, certificate }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The certificate to trust.
    pub(crate) fn certificate(&self) -> Option<PathBuf> {
        self.certificate.clone()
    }

    /// All mails so far.
    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap().clone()
    }
}

/// What becomes of a connection.
enum Next {
    Encrypt,
    End,
}

async fn serve(mut stream: TcpStream, manners: Manners, acceptor: Option<TlsAcceptor>, mails: Arc<Mutex<Vec<Mail>>>) {
    if stream.write_all(b"220 mailbox ready\r\n").await.is_err() {
        return;
    }
    let next = talk(&mut stream, &manners, false, &mails).await;
    if let (Some(Next::Encrypt), Some(acceptor)) = (next, acceptor)
        && let Ok(mut stream) = acceptor.accept(stream).await
    {
        let _end = talk(&mut stream, &manners, true, &mails).await;
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    manners: &Manners,
    encrypted: bool,
    mails: &Mutex<Vec<Mail>>,
) -> Option<Next> {
    let mut stream = BufReader::new(stream);
    let mut mail = Mail { encrypted, ..Mail::default() };
    loop {
        let line = line(&mut stream).await?;
        let command = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        if command == manners.odd_at && (encrypted || !manners.starttls) {
            match manners.oddity {
                Oddity::Says(answer) => {
                    say(&mut stream, answer).await?;
                    continue;
                }
                Oddity::Hangs => return std::future::pending().await,
                Oddity::Cuts => return None,
            }
        }
        match command.as_str() {
            "EHLO" => {
                let mut offers = vec!["mailbox", "8BITMIME", "SMTPUTF8"];
                offers.extend((manners.starttls && !encrypted).then_some("STARTTLS"));
                offers.extend(manners.auth.then_some("AUTH PLAIN LOGIN"));
                let last = offers.len() - 1;
                for (at, offer) in offers.iter().enumerate() {
                    say(&mut stream, &format!("250{}{offer}", if at == last { " " } else { "-" })).await?;
                }
            }
            "STARTTLS" => {
                say(&mut stream, "220 go on").await?;
                return Some(Next::Encrypt);
            }
            _ if manners.starttls && !encrypted && command != "QUIT" => say(&mut stream, "530 encrypt first").await?,
            "AUTH" => match login(&mut stream, &line).await? {
                user if user.is_empty() => say(&mut stream, "535 5.7.8 no").await?,
                user => {
                    mail.user = user;
                    say(&mut stream, "235 yes").await?;
                }
            },
            "MAIL" if manners.auth && mail.user.is_empty() => say(&mut stream, "530 5.7.0 who are you?").await?,
            "MAIL" => {
                mail.from = between(&line);
                say(&mut stream, "250 ok").await?;
            }
            "RCPT" => {
                mail.to.push(between(&line));
                say(&mut stream, "250 ok").await?;
            }
            "DATA" => {
                say(&mut stream, "354 go on").await?;
                mail.data = data(&mut stream).await?;
                if manners.odd_at == "." {
                    match manners.oddity {
                        Oddity::Says(answer) => {
                            say(&mut stream, answer).await?;
                            continue;
                        }
                        Oddity::Hangs => return std::future::pending().await,
                        Oddity::Cuts => return None,
                    }
                }
                mails.lock().unwrap().push(mail.clone());
                say(&mut stream, "250 taken").await?;
            }
            "QUIT" => {
                say(&mut stream, "221 bye").await?;
                return Some(Next::End);
            }
            _ => say(&mut stream, "250 ok").await?,
        }
    }
}

async fn line<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await.ok()?;
    (read > 0).then(|| line.trim_end().to_owned())
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>, text: &str) -> Option<()> {
    stream.write_all(format!("{text}\r\n").as_bytes()).await.ok()?;
    stream.flush().await.ok()
}

async fn data<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut data = String::new();
    loop {
        let line = line(stream).await?;
        if line == "." {
            return Some(data);
        }
        data += line.strip_prefix('.').unwrap_or(&line);
        data += "\r\n";
    }
}

/// The user, if user and password are right.
async fn login<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>, line: &str) -> Option<String> {
    let plain =
        |text: &str| String::from_utf8(BASE64.decode(text.trim().as_bytes()).unwrap_or_default()).unwrap_or_default();
    let mut words = line.split(' ').skip(1);
    let (user, password) = match (words.next().unwrap_or_default(), words.next()) {
        ("PLAIN", Some(initial)) => {
            let told = plain(initial);
            let mut parts = told.split('\0').skip(1).map(str::to_owned);
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
        }
        _ => {
            say(stream, "334 VXNlcm5hbWU6").await?;
            let user = plain(&self::line(stream).await?);
            say(stream, "334 UGFzc3dvcmQ6").await?;
            (user, plain(&self::line(stream).await?))
        }
    };
    Some(if (user.as_str(), password.as_str()) == (USER, PASSWORD) { user } else { String::new() })
}

fn between(line: &str) -> String {
    line.split('<').nth(1).and_then(|rest| rest.split('>').next()).unwrap_or_default().to_owned()
}
