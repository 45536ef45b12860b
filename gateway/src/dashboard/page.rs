//! What all pages share: head, frame, and parts that a page is kept live by.

use maud::{DOCTYPE, Markup, html};

use crate::access::{Asker, Role, Visitor, Who};

/// A piece of a page that may be replaced while it is looked at: the `id` of its one element, and it.
pub(super) struct Part {
    pub(super) id: String,
    pub(super) markup: Markup,
}

impl Part {
    /// `markup` is one element with this `id`.
    pub(super) fn new(id: impl Into<String>, markup: Markup) -> Self {
        Self { id: id.into(), markup }
    }
}

/// A whole page for `asker`. `live` is the path of what keeps it up to date, where something does.
pub(super) fn page(title: &str, live: Option<&str>, asker: &Asker, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                title { (title) }
                link rel="stylesheet" href="/assets/style.css";
                link rel="icon" href="data:,";
                @if live.is_some() {
                    noscript { meta http-equiv="refresh" content="10"; }
                    script src="/assets/live.js" defer {}
                }
            }
            body data-live=[live] {
                a.skip href="#content" { "Skip to the content" }
                header {
                    a href="/" { "Roadstead" }
                    @if live.is_some() { span #live role="status" { "loading" } }
                    @if let Some(visitor) = &asker.visitor { (own(visitor)) }
                }
                main #content { (body) }
                footer {
                    "For programs: " a href="/api/sites" { "JSON" } ", " a href="/api/openapi.json" { "OpenAPI" } ", "
                    a href="/metrics" { "metrics" } ". Times are UTC."
                }
            }
        }
    }
}

/// Where somebody who is known goes from every page.
fn own(visitor: &Visitor) -> Markup {
    html! {
        span.own {
            @if visitor.role >= Role::Admin { a href="/accounts" { "Accounts" } " " }
            @if visitor.role >= Role::Operator { a href="/audit" { "Audit log" } " " }
            @if let Who::User(account) = &visitor.who { a href="/account" { (account.name) } }
        }
    }
}
