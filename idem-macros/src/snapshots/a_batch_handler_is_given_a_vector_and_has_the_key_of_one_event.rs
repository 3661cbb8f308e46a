async fn bill(events: Vec<OrderPlaced>, contexts: &[Context]) -> Result<(), Error> {
    insert(events).await
}
enum bill {}
impl ::idem::__private::Handler for bill {
    type Store = ::idem::__private::stores::postgres!();
    type Input = ::idem::__private::Many<OrderPlaced>;
    const SCOPE: ::idem::__private::Text = "bill";
    fn needs(needs: &mut ::idem::__private::Needs) {
        <&[Context] as ::idem::__private::Param<'_, Self>>::needs(needs);
    }
    fn key(event: &OrderPlaced, _: ::idem::__private::Msg) -> ::idem::__private::Keyed {
        ::idem::__private::Key::of(&event.event_id)
    }
    async fn handle(
        ::idem::__private::Many(events): ::idem::__private::Many<OrderPlaced>,
        mut call: ::idem::__private::Call<'_, Self>,
    ) -> ::idem::__private::Handled {
        let param1 = <&[Context] as ::idem::__private::Param<
            '_,
            Self,
        >>::take(&mut call)?;
        ::idem::__private::finish::<Result<(), Error>>(bill(events, param1).await)
    }
}
impl ::idem::__private::Subscriber for bill {
    const TOPICS: ::idem::__private::Texts = &["orders"];
    fn decode(event: ::idem::__private::Encoded) -> ::idem::__private::Decoded<Self> {
        ::idem::__private::decode_json::<OrderPlaced>(event)
    }
}
impl ::idem::__private::KeyedByEvent for bill {}
impl bill {
    /// Runs the handler once for the key of the event, as `idem::Processor::process` does.
    async fn process(
        store: &<Self as ::idem::__private::Handler>::Store,
        event: OrderPlaced,
    ) -> ::idem::__private::Processed {
        ::idem::__private::process::<Self>(store, event).await
    }
}
