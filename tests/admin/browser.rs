//! The whole way in a browser, by clicks: from the start to a record, its resolution, and what is left.

use std::{sync::Arc, time::Duration};

use axum::Router;
use idempotent_runtime::{Error, Idempotency, Outcome, admin::Admin};
use tokio::{net::TcpListener, task::AbortHandle};

use crate::{
    driver::{Browser, DESK, PHONE},
    records::{abandoned, claim, ended},
    site::{LONG, MOUNT},
};

/// A service with the page, on a port, for whoever comes.
struct Service {
    url: String,
    task: AbortHandle,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(idempotency: &Idempotency) -> Service {
    let page = Admin::new(idempotency.clone(), |_| true).who_may_act(|_| Some("alice".to_owned())).may_reveal(|_| true);
    let router = Router::new().nest(MOUNT, page.router());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{MOUNT}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
    Service { url, task }
}

/// Records of every kind, some with texts that are wider than any screen.
async fn fill(idempotency: &Idempotency) {
    abandoned(idempotency, "payments.charge|order-17").await;
    abandoned(idempotency, "payments.charge|order-18").await;
    let long = format!("payments.{}|{}", "very-long-name-".repeat(12), "x".repeat(900));
    claim(idempotency, &long, Duration::from_nanos(1), &"context".repeat(30)).await;
    for number in 0..9 {
        ended(idempotency, &format!("mail.send|m-{number}"), Outcome::Exhausted).await;
    }
    claim(idempotency, "reports.month|2026-11", LONG, "request 4").await;
    ended(idempotency, "payments.refund|order-3", Outcome::Err("\"Declined\"".into())).await;
    ended(idempotency, "inbox%2Fbook|m-1", Outcome::Dead).await;
    let wide = format!("{{\"receipt\":\"{}\",\"lines\":[1,2,3]}}", "0123456789".repeat(60));
    ended(idempotency, "payments.charge|order-16", Outcome::Ok(wide.into())).await;
    let call = async |amount: u32| {
        let call = idempotency.call("payments.refund").key("order-9").arguments(&amount);
        drop(call.run(async { Ok::<_, Error>(amount) }).await);
    };
    for amount in [1, 1, 1, 2] {
        call(amount).await;
    }
}

async fn from_the_start_to_the_end(browser: Arc<Browser>) {
    let idempotency = Idempotency::memory();
    fill(&idempotency).await;
    let service = serve(&idempotency).await;

    browser.goto(&service.url).await;
    browser.find(".group").await;
    browser.look("start").await;
    browser.click("a[href*='key=order-17']").await;
    browser.find("form.resolve").await;
    assert!(browser.text(".next").await.contains("it is not run again"));
    browser.look("record").await;

    // The browser itself asks for what is missing.
    browser.click("#say-result").await;
    browser.type_into("textarea[name=json]", "{\"receipt\": ").await;
    browser.click("button.act").await;
    browser.find("textarea[name=reason]:invalid").await;
    browser.type_into("textarea[name=reason]", "On the statement of 28 November.").await;
    browser.click("button.act").await;
    assert!(browser.text(".mistake").await.contains("not JSON"));
    browser.look("mistake").await;
    browser.type_into("textarea[name=json]", "17}").await;
    browser.click("button.act").await;
    browser.find(".outcome.applied").await;
    browser.look("resolved").await;
    let record = idempotency.inspect("payments.charge", "order-17").await.unwrap().unwrap();
    assert_eq!(record.state, idempotent_runtime::State::Done(Outcome::Ok("{\"receipt\": 17}".into())));
    browser.click("main a[href*='key=order-17']").await;
    browser.find("dl.facts").await;
    assert!(browser.text("dl.facts").await.contains("by alice at "));
    browser.look("done").await;

    // Somebody is quicker.
    browser.click(".bar a.home").await;
    browser.click("a[href*='key=order-18']").await;
    browser.click("#say-rerun").await;
    browser.type_into("textarea[name=reason]", "Not on the statement.").await;
    assert!(idempotency.forget("payments.charge", "order-18").await.unwrap());
    browser.click("button.act").await;
    browser.find(".outcome.lost").await;
    browser.look("quicker").await;

    assert_eq!(browser.complaints().await, Vec::<String>::new());
    others(&browser, &service).await;
}

/// The other views, by the search and by links.
async fn others(browser: &Browser, service: &Service) {
    browser.click(".bar a[href=records]").await;
    browser.find("table.records").await;
    browser.look("records").await;
    browser.type_into("input[name=operation]", "payments.charge").await;
    browser.type_into("input[name=key]", "order-16").await;
    browser.click("form.search button").await;
    browser.find("dl.facts .stored").await;
    browser.look("revealed").await;
    for (view, path, has) in [
        ("long", "records?state=lapsed", "table.records"),
        ("running", "record?operation=reports.month&key=2026-11", "dl.facts"),
        ("exhausted", "record?operation=mail.send&key=m-1", "form.resolve"),
        ("none", "record?operation=mail.send&key=none", ".next"),
        ("nothing", "nowhere", "h1"),
        ("search", "records?key=17", ".mistake"),
    ] {
        browser.goto(&format!("{}/{path}", service.url)).await;
        browser.find(has).await;
        browser.look(view).await;
        if view == "long" {
            browser.click("table.records a.key").await;
            browser.find("dl.facts").await;
            browser.look("long-record").await;
        }
    }
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    // What is forbidden is a complaint.
    browser.execute("document.body.append(Object.assign(new Image(), { src: 'data:image/png;base64,AA' }))").await;
    browser
        .execute("document.head.append(Object.assign(document.createElement('style'), { textContent: 'a{}' }))")
        .await;
    let complaints = browser.complaints().await;
    assert!(complaints.iter().any(|said| said.contains("Content Security Policy")), "{complaints:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_finds_and_resolves_on_a_phone() {
    Browser::with(PHONE, from_the_start_to_the_end).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_finds_and_resolves_at_a_desk() {
    Browser::with(DESK, from_the_start_to_the_end).await;
}
