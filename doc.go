// Package deed runs event-sourced programs.
//
// A program is described by values. An [Aggregate] says which events can
// happen to an entity and which commands can be asked of it, a [Projection]
// folds events into documents that are easy to read, an [EventHandler] reacts
// to events. A [Domain] lists them; a [Runtime] runs domains on a
// [store.Store].
//
//	Withdraw{30}  --Decide-->  Withdrawn{30}  --Apply-->  Account{Balance: 70}
//	                               |
//	                               +--On-->  Statement{Balance: 70}
//
// Events and commands are plain structs with one method each. Nothing is
// embedded, nothing is registered globally, and no goroutine runs until
// [Runtime.Run].
//
// Everything that happens is an event in a stream: "order/o-17" holds the
// events of an order, "$command/<id>" what became of a command,
// "$claim/<scope>/<hash>" who holds a unique value. The streams together are
// the log, and whatever reads it with its own cursor is a follower.
package deed
