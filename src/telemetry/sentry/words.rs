//! What may be told outside of a text: the words of our own messages, of the operating system's and of the servers'.
//!
//! An error's text may hold anything: customers, addresses, keys, what a server quotes. Rather than look for what is secret,
//! only known words are let through; whatever else stands there becomes `…`. So nothing can be told by spelling it in a
//! way that nobody thought of.

/// Of messages, in any order. None of them is anybody's name or secret, also where somebody is called so.
const WORDS: &str = "
a about account accounts active add address after again alert alerts all allowed already an and another answer answered
any api archive archived are as ask asked assertion at away back backtrace bad batch be been before begin beginning below
beside body border borrow bound bounds bridge broken bucket but by byte bytes cache call called can cannot caught
certificate certificates change changed changing character characters check checked checkpoint checkpoints checksum
client close closed code column come comes command commit committed compare config configuration configured confirm
conflict connect connected connection connections constraint consumer contain contains content context continues control
correct corrupt could count created credentials current customer customers data database dead deadline deadlock decode
decoded default delete deleted delivered denied depth descriptor detected device did different digits directory
disconnected disk divide document does down drain dropped duplicate during each element embedded empty encode end ended
ends engine entry eof epoch error errors event events every exceeded exist existing exists expected expired failed fails
failure feature fenced field fields file files find finished first fits flag flush for forbidden form format forward
found free from full function gateway gave gives go going gone group had half handshake has hash have header headers held
hold holds host hosts hour http id identified if in index information input insert inside instance instead insufficient
integer internal interrupted into invalid invoice io is it its itself jetstream join json keep kept key keys known large
last late lease leases least left len length less level levels limit limits line link list listen local lock locked log
logging long longer lost made make many map max maximum may memory message messagepack messages migrate migration min
missing moment more moved must name named names nats need needed needs negative nested network never newer next no nobody
node none normalizer not nothing notify now null number object objects of off offer offered offset old older on once one
only open opened operation option or order other others our out outbox outcome over overflow overtaken own owner
ownership page panicked parse part partition partitions path payload peer pending permission pipe place pool port
position postgres postgresql prepared process progress protocol provider publish published query queue quota range rate
read reader readers reading ready reason received record refused reject rejected relation reload reloaded remote remove
replay replica report request requests required reserved reset resolve resource response restart result retry revoked
right risk role rolled rollback route row rows rule rules run running runs runtime same schema score secret section
semaphore send sender sent sequence serialization serialize server servers service session set setting settings shared
should shutdown signal signals since size slot slow snapshot so socket some space speak stage standard stands start
started state statement states status stay still stop stopped store stored stored stream streams string stripe subject
subscription subtract such superseded surrogate syntax system table tables take taken task tasks temporarily terminating
test text than that the their them then there they this thread threads time timed timeout timestamp tls to together token
too took topology transaction transfer transport tried try trying type unable unavailable unconfirmed under undefined
unexpected unhandled unique unit unknown unreachable unsupported until unwrap up update upstream url use used user using
utf valid value values variant version versions violates wait waited waiting want was watermark webhook webhooks were
what when where whether which while whole window windows with within without worker works would write writer writes
writing wrong yet zero zombie
";

/// What stands for everything else.
const HIDDEN: &str = "…";

/// A text with nothing but known words in it.
pub(super) fn known_words(text: &str) -> String {
    let mut told = String::new();
    for token in text.split_whitespace().take(200) {
        let word = token.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
        let shown = known(word);
        if shown == HIDDEN && (told.ends_with(HIDDEN) || word.is_empty()) {
            continue;
        }
        if !told.is_empty() {
            told.push(' ');
        }
        told.push_str(shown);
        if shown != HIDDEN
            && let Some(mark) = token.chars().last().filter(|mark| matches!(mark, ',' | ';' | ':'))
        {
            told.push(mark);
        }
    }
    told
}

/// The word itself, as it is spelled here; how it was spelled there is not told either.
fn known(word: &str) -> &'static str {
    WORDS.split_ascii_whitespace().find(|known| known.eq_ignore_ascii_case(word)).unwrap_or(HIDDEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_words_are_told_and_nothing_else() {
        for (text, told) in [
            (
                "answered `unavailable`: nats did not confirm a message to churn.events.acme.anna=40x=2Eorg in time: timed out",
                "answered unavailable: nats did not confirm a message to … in time: timed out",
            ),
            ("task `worker` failed: no route for anna@example.com", "task worker failed: no route for …"),
            ("password=hunter2 key sk_live_123, 192.0.2.1:4222", "… key …"),
            (
                "error connecting to server: Connection refused (os error 111)",
                "error … to server: connection refused … error …",
            ),
            ("{\"event\":\"login\"} https://u:p@host/x?token=1", "…"),
            ("", ""),
            ("`` -- ''", ""),
        ] {
            assert_eq!(known_words(text), told);
        }
    }
}
