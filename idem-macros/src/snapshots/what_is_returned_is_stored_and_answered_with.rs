async fn bill(event: OrderPlaced, tx: &mut Db) -> Result<Receipt, BillingError> {
    insert(event, tx).await
}
enum bill {}
impl ::idem::__private::Handler for bill {
    type Store = ::idem::__private::stores::postgres!();
    type Input = ::idem::__private::One<OrderPlaced>;
    const SCOPE: ::idem::__private::Text = "bill";
    const POLICY: ::idem::__private::Policy = ::idem::__private::Policy::new()
        .payload_check(::idem::__private::PayloadCheck::DeadLetter);
    const STORES_RESULT: bool = true;
    fn needs(needs: &mut ::idem::__private::Needs) {
        <&mut Db as ::idem::__private::Param<'_, Self>>::needs(needs);
    }
    fn key(event: &OrderPlaced, _: ::idem::__private::Msg) -> ::idem::__private::Keyed {
        ::idem::__private::Key::of(&event.event_id)
    }
    async fn handle(
        ::idem::__private::One(event): ::idem::__private::One<OrderPlaced>,
        mut call: ::idem::__private::Call<'_, Self>,
    ) -> ::idem::__private::Handled {
        let answer = call.answer()?;
        let param1 = <&mut Db as ::idem::__private::Param<'_, Self>>::take(&mut call)?;
        answer
            .keep(
                &::idem::__private::finish_with(
                    ::idem::__private::answer_of::<
                        Result<Receipt, BillingError>,
                    >(bill(event, param1).await),
                    BillingError::is_permanent,
                )?,
                16384usize,
            )
    }
}
impl ::idem::__private::Subscriber for bill {
    const TOPICS: ::idem::__private::Texts = &["orders"];
    fn decode(event: ::idem::__private::Encoded) -> ::idem::__private::Decoded<Self> {
        ::idem::__private::decode_json::<OrderPlaced>(event)
    }
}
impl ::idem::__private::Answers for bill {
    type Answer = <Result<
        Receipt,
        BillingError,
    > as ::idem::__private::ReturnedAnswer>::Answer;
}
impl ::idem::__private::KeyedByEvent for bill {}
impl bill {
    /// Runs the handler once for the key of the event, and answers with what it returned, as `idem::Processor::answer` does.
    async fn process(
        store: &<Self as ::idem::__private::Handler>::Store,
        event: OrderPlaced,
    ) -> ::idem::__private::Answered<Self> {
        ::idem::__private::answer::<Self>(store, event).await
    }
}
