//! What the attribute says of failure, time, order and markers, as a constant.

use proc_macro2::TokenStream;
use quote::quote_spanned;
use syn::Ident;

use super::here;
use crate::effects::UnknownEnd;
use crate::markers::{Markers, Window};
use crate::model::Policy;
use crate::policy::OnFailure;
use crate::retry::{Max, Retry};
use crate::time::Time;

/// The constant, when anything is said.
pub(super) fn policy(policy: &Policy, effects: Option<&UnknownEnd>) -> Option<TokenStream> {
    if *policy == Policy::default() && effects.is_none() {
        return None;
    }
    let effects = effects.map(|it| {
        let end = match it {
            UnknownEnd::Retry => quote_spanned!(here()=> Retry),
            UnknownEnd::RetryAfter(after) => {
                let after = time(*after);
                quote_spanned!(here()=> RetryAfter(#after))
            }
            UnknownEnd::Never => quote_spanned!(here()=> Never),
            UnknownEnd::Probe(_) => quote_spanned!(here()=> Probe),
        };
        call("unknown_end", &quote_spanned!(here()=> ::idem::__private::UnknownEnd::#end))
    });
    let retry = policy.retry.as_ref().map(|it| call("retry", &retry(it)));
    let on_failure = policy.on_failure.map(|it| call("on_failure", &on_failure(it)));
    let isolation = policy.isolation.map(|it| {
        let level = Ident::new(it.0, here());
        call("isolation", &quote_spanned!(here()=> ::idem::__private::IsolationLevel::#level))
    });
    let timeout = policy.timeout.map(|it| call("timeout", &time(it)));
    let slices = policy.slices.map(|it| call("slices", &quote_spanned!(here()=> #it)));
    let missing_key = policy.missing_key.map(|it| {
        let answer = Ident::new(it.0, here());
        call("missing_key", &quote_spanned!(here()=> ::idem::__private::MissingKey::#answer))
    });
    let payload_check = policy.payload_check.map(|it| {
        let check = Ident::new(it.0, here());
        call("payload_check", &quote_spanned!(here()=> ::idem::__private::PayloadCheck::#check))
    });
    let markers = policy.markers.map(markers);
    Some(quote_spanned! {here()=>
        const POLICY: ::idem::__private::Policy =
            ::idem::__private::Policy::new() #retry #on_failure #isolation #timeout #slices #missing_key
            #payload_check #effects #markers;
    })
}

fn retry(retry: &Retry) -> TokenStream {
    let new = match retry.max {
        Some(Max::Never) => "never",
        Some(Max::Forever) => "forever",
        Some(Max::Attempts(_)) | None => "new",
    };
    let new = Ident::new(new, here());
    let max = match retry.max {
        Some(Max::Attempts(max)) => Some(call("max", &quote_spanned!(here()=> #max))),
        Some(Max::Never | Max::Forever) | None => None,
    };
    let backoff = retry.backoff.map(|(first, longest)| {
        let (first, longest) = (time(first), time(longest));
        call("backoff", &quote_spanned!(here()=> #first, #longest))
    });
    let jitter = retry.jitter.map(|it| call("jitter", &quote_spanned!(here()=> #it)));
    let total = retry.total.map(|it| call("total", &time(it)));
    quote_spanned!(here()=> ::idem::__private::Retry::#new() #max #backoff #jitter #total)
}

fn on_failure(on_failure: OnFailure) -> TokenStream {
    let variant = match on_failure {
        OnFailure::DeadLetter => quote_spanned!(here()=> DeadLetter),
        OnFailure::ParkKey(None) => quote_spanned!(here()=> PARK_KEY),
        OnFailure::ParkKey(Some(limit)) => quote_spanned!(here()=> ParkKey { limit: #limit }),
        OnFailure::Stop => quote_spanned!(here()=> Stop),
    };
    quote_spanned!(here()=> ::idem::__private::OnFailure::#variant)
}

fn markers(markers: Markers) -> TokenStream {
    let (variant, window) = match markers {
        Markers::Rows => ("Rows", None),
        Markers::Packed(window) => ("Packed", window),
    };
    let variant = Ident::new(variant, here());
    let kept = call("markers", &quote_spanned!(here()=> ::idem::__private::Markers::#variant));
    let window = window.map(|it| call("window", &window_of(it)));
    quote_spanned!(here()=> #kept #window)
}

fn window_of(window: Window) -> TokenStream {
    let long = match window.time {
        Some(it) => call_of("time", &time(it)),
        None => quote_spanned!(here()=> DEFAULT),
    };
    let events = window.events.map(|it| call("events", &quote_spanned!(here()=> #it)));
    quote_spanned!(here()=> ::idem::__private::Window::#long #events)
}

fn time(time: Time) -> TokenStream {
    let (from, number) = time.in_largest_unit();
    let from = Ident::new(from, here());
    quote_spanned!(here()=> ::idem::__private::Duration::#from(#number))
}

fn call(name: &str, arguments: &TokenStream) -> TokenStream {
    let call = call_of(name, arguments);
    quote_spanned!(here()=> .#call)
}

fn call_of(name: &str, arguments: &TokenStream) -> TokenStream {
    let name = Ident::new(name, here());
    quote_spanned!(here()=> #name(#arguments))
}
