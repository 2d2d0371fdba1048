//! A counter with one label, whose values are words in the code.

use std::sync::Arc;

use metrics::{Counter, Gauge, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::PrometheusRecorder;

/// Finds each value's counter without a lock; makes it at its first use.
pub(super) struct Family {
    recorder: Arc<PrometheusRecorder>,
    name: &'static str,
    label: &'static str,
    counters: papaya::HashMap<&'static str, Counter, foldhash::fast::RandomState>,
}

impl Family {
    pub(super) fn new(recorder: Arc<PrometheusRecorder>, name: &'static str, label: &'static str, help: &'static str) -> Self {
        recorder.describe_counter(KeyName::from_const_str(name), None::<Unit>, SharedString::const_str(help));
        Self { recorder, name, label, counters: papaya::HashMap::default() }
    }

    pub(super) fn add(&self, value: &'static str, count: u64) {
        let make = || register_counter(&self.recorder, self.name, &[(self.label, value.to_owned())]);
        self.counters.pin().get_or_insert_with(value, make).increment(count);
    }
}

pub(super) fn register_counter(recorder: &PrometheusRecorder, name: &'static str, labels: &[(&'static str, String)]) -> Counter {
    recorder.register_counter(&key(name, labels), &METADATA)
}

pub(super) fn register_gauge(recorder: &PrometheusRecorder, name: &'static str, labels: &[(&'static str, String)]) -> Gauge {
    recorder.register_gauge(&key(name, labels), &METADATA)
}

const METADATA: Metadata<'static> = Metadata::new("muster", Level::INFO, None);

fn key(name: &'static str, labels: &[(&'static str, String)]) -> Key {
    let labels: Vec<_> = labels.iter().map(|(label, value)| Label::new(*label, value.clone())).collect();
    Key::from_parts(name, labels)
}
