//! Collects what an event of `tracing` carries, as JSON values.

use std::fmt::Debug;

use serde_json::Value;
use tracing::Event;
use tracing::field::{Field, Visit};

/// The message and fields of an event.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) message: String,
    pub(super) others: Vec<(&'static str, Value)>,
}

impl Fields {
    pub(super) fn of(event: &Event<'_>) -> Fields {
        let mut fields = Fields::default();
        event.record(&mut fields);
        fields
    }

    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", value) => self.message = value.to_string(),
            // Where the `log` crate's events come from; their text is enough.
            (name, _) if name.starts_with("log.") => {}
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    /// Also what is recorded with `%`. A list of texts looks like JSON already.
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        let list = text
            .starts_with('[')
            .then(|| serde_json::from_str(&text).ok());
        self.put(field, list.flatten().unwrap_or(Value::String(text)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    /// Durations in milliseconds have this type. What does not fit into JSON's integers is a text.
    fn record_u128(&mut self, field: &Field, value: u128) {
        let number = u64::try_from(value).map(Value::from);
        self.put(field, number.unwrap_or_else(|_| value.to_string().into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use tracing::Subscriber;
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;

    struct Keep(Arc<Mutex<Fields>>);

    impl<S: Subscriber> Layer<S> for Keep {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            *self.0.lock().unwrap() = Fields::of(event);
        }
    }

    #[test]
    fn values_keep_their_types() {
        let kept = Arc::new(Mutex::new(Fields::default()));
        let subscriber = tracing_subscriber::registry().with(Keep(kept.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let leader: Option<&str> = None;
            tracing::info!(
                term = 5,
                share = 0.5,
                took_ms = 7_u128,
                leader,
                is_voter = true,
                error = %"[::1]:1 is gone",
                missing = ?["b", "c"],
                "a {}", 1
            );
        });
        let fields = kept.lock().unwrap();
        assert_eq!(fields.message, "a 1");
        let expected = [
            ("term", json!(5)),
            ("share", json!(0.5)),
            ("took_ms", json!(7)),
            ("is_voter", json!(true)),
            ("error", json!("[::1]:1 is gone")),
            ("missing", json!(["b", "c"])),
        ];
        assert_eq!(fields.others, expected);
    }
}
