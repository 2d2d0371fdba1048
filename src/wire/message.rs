//! Messages on the wire: what the body of each kind of frame is.

use serde::{Deserialize, Serialize};

use super::audience::{Page, Report};
use super::beacon::Beacon;
use super::change::Change;
use super::header::Kind;
use super::list::List;
use super::overrides::{Entries, entries_of, to_entries};
use super::probe::Outcome;
use super::pull::{Have, Want};
use super::reading::Reading;
use super::record::{Key, Records, counted, records_of, to_records};
use super::relay::{Lease, Renewal, Verdict};
use super::{Rejected, TooLarge, body};
use crate::model::Epoch;
use crate::registry::{CONSULTED_MAX, Message, RELAY_MAX};

#[derive(Serialize, Deserialize)]
struct Pull<'a> {
    ticket: u64,
    #[serde(borrow)]
    want: Want<'a>,
}

#[derive(Serialize, Deserialize)]
struct PullSized<'a> {
    ticket: u64,
    bytes_max: u32,
    #[serde(borrow)]
    want: Want<'a>,
}

#[derive(Serialize, Deserialize)]
struct Pulled<'a> {
    ticket: u64,
    #[serde(borrow)]
    have: Have<'a>,
}

#[derive(Serialize, Deserialize)]
struct Relay<'a> {
    ticket: u64,
    #[serde(borrow)]
    renewals: List<Renewal<'a>, RELAY_MAX>,
}

#[derive(Serialize, Deserialize)]
struct Relayed<'a> {
    ticket: u64,
    #[serde(borrow)]
    verdicts: List<Verdict<'a>, RELAY_MAX>,
}

#[derive(Serialize, Deserialize)]
struct Applied {
    epoch: u64,
    seq: u64,
}

#[derive(Serialize, Deserialize)]
struct AskLease<'a> {
    ticket: u64,
    #[serde(borrow)]
    key: Key<'a>,
}

#[derive(Serialize, Deserialize)]
struct ToldLease {
    ticket: u64,
    lease: Option<Lease>,
}

#[derive(Serialize, Deserialize)]
struct ToldProbe<'a> {
    ticket: u64,
    #[serde(borrow)]
    outcome: Outcome<'a>,
}

#[derive(Serialize, Deserialize)]
struct AskAudience {
    ticket: u64,
    from: u32,
}

#[derive(Serialize, Deserialize)]
struct ToldAudience<'a> {
    ticket: u64,
    #[serde(borrow)]
    page: Page<'a>,
}

#[derive(Serialize, Deserialize)]
struct AskDelivery<'a> {
    question: u64,
    #[serde(borrow)]
    key: Key<'a>,
    seq: u64,
    within_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct ToldDelivery<'a> {
    question: u64,
    #[serde(borrow)]
    report: Report<'a>,
}

#[derive(Serialize, Deserialize)]
struct AskRecords<'a> {
    ticket: u64,
    #[serde(borrow)]
    keys: List<Key<'a>, CONSULTED_MAX>,
}

#[derive(Serialize, Deserialize)]
struct ToldRecords<'a> {
    ticket: u64,
    answered: u32,
    #[serde(borrow)]
    records: Records<'a>,
}

/// More records than fit into a frame.
const HANDED_MAX: usize = 65_536;

#[derive(Serialize, Deserialize)]
struct HandOver<'a> {
    ticket: u64,
    #[serde(borrow)]
    records: Records<'a>,
    heard: List<(u64, u32), HANDED_MAX>,
    #[serde(borrow)]
    overrides: Entries<'a>,
}

#[derive(Serialize, Deserialize)]
struct TookOver {
    ticket: u64,
    held: List<u64, HANDED_MAX>,
}

/// Appends a message's body to a frame.
pub(super) fn write(message: &Message, frame: &mut Vec<u8>) -> Result<(), TooLarge> {
    match message {
        Message::Change(change) => body::write(&Change::of(change), frame),
        Message::Beacon(beacon) => body::write(&Beacon::of(beacon), frame),
        Message::Pull { ticket, want } => body::write(&Pull { ticket: *ticket, want: Want::of(want) }, frame),
        Message::PullSized { ticket, bytes_max, want } => {
            body::write(&PullSized { ticket: *ticket, bytes_max: *bytes_max, want: Want::of(want) }, frame)
        }
        Message::Pulled { ticket, have } => body::write(&Pulled { ticket: *ticket, have: Have::of(have) }, frame),
        Message::Relay { ticket, renewals } => {
            body::write(&Relay { ticket: *ticket, renewals: renewals.iter().map(Renewal::of).collect() }, frame)
        }
        Message::Relayed { ticket, verdicts } => {
            body::write(&Relayed { ticket: *ticket, verdicts: verdicts.iter().map(Verdict::of).collect() }, frame)
        }
        Message::Applied { epoch, seq } => body::write(&Applied { epoch: epoch.0, seq: *seq }, frame),
        Message::AskLease { ticket, key } | Message::AskProbe { ticket, key } => {
            body::write(&AskLease { ticket: *ticket, key: Key::of(key) }, frame)
        }
        Message::ToldLease { ticket, lease } => body::write(&ToldLease { ticket: *ticket, lease: lease.as_ref().map(Lease::of) }, frame),
        Message::Overrides(entries) => body::write(&entries_of(entries), frame),
        Message::ToldProbe { ticket, outcome } => body::write(&ToldProbe { ticket: *ticket, outcome: Outcome::of(outcome) }, frame),
        Message::AskAudience { ticket, from } => body::write(&AskAudience { ticket: *ticket, from: *from }, frame),
        Message::ToldAudience { ticket, page } => body::write(&ToldAudience { ticket: *ticket, page: Page::of(page) }, frame),
        Message::AskDelivery { question, key, seq, within_ms } => {
            body::write(&AskDelivery { question: *question, key: Key::of(key), seq: *seq, within_ms: *within_ms }, frame)
        }
        Message::HandOver { ticket, records, heard, overrides } => {
            let (records, heard) = (records_of(records), heard.iter().copied().collect());
            body::write(&HandOver { ticket: *ticket, records, heard, overrides: entries_of(overrides) }, frame)
        }
        Message::TookOver { ticket, held } => body::write(&TookOver { ticket: *ticket, held: held.iter().copied().collect() }, frame),
        Message::ToldDelivery { question, report } => body::write(&ToldDelivery { question: *question, report: Report::of(report) }, frame),
        Message::AskRecords { ticket, keys } => {
            body::write(&AskRecords { ticket: *ticket, keys: keys.iter().map(Key::of).collect() }, frame)
        }
        Message::ToldRecords { ticket, answered, records } => {
            let answered = u32::try_from(*answered).unwrap_or(u32::MAX);
            body::write(&ToldRecords { ticket: *ticket, answered, records: records_of(records) }, frame)
        }
    }
}

/// Reads a message of this kind from a frame's body.
pub(super) fn read(kind: Kind, bytes: &[u8], reading: &mut Reading) -> Result<Message, Rejected> {
    Ok(match kind {
        Kind::Change => Message::Change(body::read::<Change<'_>>(bytes)?.into_model(reading)?),
        Kind::Beacon => Message::Beacon(body::read::<Beacon<'_>>(bytes)?.into_model(reading)?),
        Kind::Pull => {
            let Pull { ticket, want } = body::read(bytes)?;
            Message::Pull { ticket, want: want.into_model(reading)? }
        }
        Kind::PullSized => {
            let PullSized { ticket, bytes_max, want } = body::read(bytes)?;
            Message::PullSized { ticket, bytes_max, want: want.into_model(reading)? }
        }
        Kind::Pulled => {
            let Pulled { ticket, have } = body::read(bytes)?;
            Message::Pulled { ticket, have: have.into_model(reading)? }
        }
        Kind::Relay => {
            let Relay { ticket, renewals } = body::read(bytes)?;
            Message::Relay { ticket, renewals: renewals.into_iter().map(|renewal| renewal.into_model(reading)).collect::<Result<_, _>>()? }
        }
        Kind::Relayed => {
            let Relayed { ticket, verdicts } = body::read(bytes)?;
            Message::Relayed {
                ticket,
                verdicts: verdicts.into_iter().map(|verdict| verdict.into_model(reading)).collect::<Result<_, _>>()?,
            }
        }
        Kind::Applied => {
            let Applied { epoch, seq } = body::read(bytes)?;
            Message::Applied { epoch: Epoch(epoch), seq }
        }
        Kind::AskLease => {
            let AskLease { ticket, key } = body::read(bytes)?;
            Message::AskLease { ticket, key: key.into_model(reading)? }
        }
        Kind::ToldLease => {
            let ToldLease { ticket, lease } = body::read(bytes)?;
            Message::ToldLease { ticket, lease: lease.map(Lease::into_model) }
        }
        Kind::AskProbe => {
            let AskLease { ticket, key } = body::read(bytes)?;
            Message::AskProbe { ticket, key: key.into_model(reading)? }
        }
        Kind::ToldProbe => {
            let ToldProbe { ticket, outcome } = body::read(bytes)?;
            Message::ToldProbe { ticket, outcome: outcome.into_model()? }
        }
        Kind::Overrides => Message::Overrides(to_entries(body::read::<Entries<'_>>(bytes)?, reading)),
        Kind::AskAudience => {
            let AskAudience { ticket, from } = body::read(bytes)?;
            Message::AskAudience { ticket, from }
        }
        Kind::ToldAudience => {
            let ToldAudience { ticket, page } = body::read(bytes)?;
            Message::ToldAudience { ticket, page: page.into_model(reading)? }
        }
        Kind::AskDelivery => {
            let AskDelivery { question, key, seq, within_ms } = body::read(bytes)?;
            Message::AskDelivery { question, key: key.into_model(reading)?, seq: counted(seq, "seq")?, within_ms }
        }
        Kind::AskRecords => {
            let AskRecords { ticket, keys } = body::read(bytes)?;
            Message::AskRecords { ticket, keys: keys.into_iter().map(|key| key.into_model(reading)).collect::<Result<_, _>>()? }
        }
        Kind::ToldRecords => {
            let ToldRecords { ticket, answered, records } = body::read(bytes)?;
            Message::ToldRecords { ticket, answered: answered as usize, records: to_records(records, reading) }
        }
        Kind::HandOver => {
            let HandOver { ticket, records, heard, overrides } = body::read(bytes)?;
            let (records, overrides) = (to_records(records, reading), to_entries(overrides, reading));
            Message::HandOver { ticket, records, heard: heard.into_iter().collect(), overrides }
        }
        Kind::TookOver => {
            let TookOver { ticket, held } = body::read(bytes)?;
            Message::TookOver { ticket, held: held.into_iter().collect() }
        }
        Kind::ToldDelivery => {
            let ToldDelivery { question, report } = body::read(bytes)?;
            Message::ToldDelivery { question, report: report.into_model()? }
        }
    })
}
