//! Formats the events of `tracing` as lines of the log.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::fields::Fields;
use super::line::render;
use super::settings::{LogFormat, LogSettings};
use crate::upstream_log;

/// The formatter.
pub(super) struct EventLine(pub(super) LogSettings);

impl<S, N> FormatEvent<S, N> for EventLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            Level::DEBUG | Level::TRACE => "DEBUG",
        };
        let mut fields = Fields::of(event);
        let says_it_all = metadata.target() == upstream_log::TARGET;
        if says_it_all && self.0.format == LogFormat::Text {
            fields.others.clear();
        }
        let text = render(
            &self.0,
            level,
            metadata.target(),
            &fields.message,
            &fields.others,
        );
        writeln!(writer, "{text}")
    }
}
