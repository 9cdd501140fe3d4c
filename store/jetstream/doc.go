// Package jetstream keeps everything in NATS JetStream (nats-server 2.12 or
// newer): for installations that want several servers with a copy each, and
// several processes that write, but no database.
//
// # What there is
//
// An installation (Options.Name) has two JetStream streams. NAME-log has one
// message for each event, on a subject for each stream; the position of an
// event is the sequence of its message. Deleting and purging are denied.
// NAME-docs has the last message of each document. Both are made when a store
// is opened for the first time. The version of an event in its stream, its
// time, and a CRC-32C over all of it are in the message; the checksum is
// verified whenever the event is read.
//
// An append is an atomic batch. It states where each of its streams must end,
// and where the whole log must. The second makes the writers of several
// processes go one after the other; it is what keeps time from going back
// between clocks that differ, and what makes it safe to send a batch again
// whose answer was lost. In each process one goroutine puts whatever waits
// into one batch, with a verdict for each append in it. So throughput comes
// from many appends at once, not from many processes: more of them get in
// each other's way.
//
// # What the servers must be told
//
//	max_payload: 8404992             # the largest event is 8 MiB
//	jetstream {
//	  store_dir: /data/nats
//	  sync_interval: always          # else acknowledged events are lost in a power cut
//	  limits { batch { max_msgs: 20000 } }
//	}
//
// Without sync_interval: always JetStream acknowledges what is not on the
// disk: measured, a power cut lost everything of the last minutes, once the
// stream itself. An account cannot see how its servers are set. The store asks
// over Options.System, a connection to the system account, when it is opened;
// without that it believes Options.SyncAlways; without both it says that it is
// volatile ([store.Volatile]). If the servers are found to be set otherwise
// although SyncAlways was promised, it does not open. Nobody notices if a
// server is set differently later.
//
// The other two are checked when a store is opened. Options.Limited accepts
// less; what is too large is then refused with [errors.ErrUnsupported].
//
// The account must be deed's own for the subjects NAME.> and the two streams:
// who may publish there can write what is not an event (readers then stop with
// [store.ErrCorrupt]), and who may delete streams can delete everything.
//
// # What a server may lose
//
// Use three replicas (Options.Replicas) on machines that do not fail together.
// With one, a lost disk is a lost log, and so is one that returns wrong bits:
// JetStream drops damaged messages when it starts, and says nothing. What is
// missing is noticed, and asked of other replicas if there are any:
//
//   - in the middle of a stream, by whoever reads the stream or the whole log:
//     versions and sequences have no gaps;
//   - at the end of a stream, by whoever reads the whole log, and by who reads
//     the stream if the server says that it is empty, as it does when the lost
//     message was its last. If the server should name an earlier one as the
//     last, who reads only the stream does not notice, and may append: two
//     events have the same version then, which [Store.Check] finds;
//   - at the end of the whole log, by a follower that had read it, if nothing
//     has been appended since, and by nobody else: a log does not know how long
//     it was. A [Store] that has it open notices too;
//   - not by a reader that is far behind and reads a few categories only.
//
// So a single server needs its disk checked (deed check) and backed up (deed
// copy), and is no place for what must not be lost.
//
// A single server is also slow at documents and appends of several events: it
// stages each atomic batch in a folder of its own, with six syncs or more.
// Replicated streams stage batches in memory.
//
// # What is not as on other stores
//
//   - A leader that was cut off from the other replicas answers questions for
//     some seconds before it knows. A process cut off together with it does not
//     see what others append in that time. Nothing it appends is acknowledged
//     then, and within one [Store] the log never becomes shorter: it waits, and
//     is unavailable in the end, rather than show less than it has shown. No
//     cursor and no position that was handed out is wrong later.
//   - One Write changes at most 20,000 documents; more are refused with
//     [errors.ErrUnsupported]. The contract knows no such bound.
//   - Positions have gaps where an append demanded something of a stream that
//     it does not write to.
//   - JetStream finds messages by sequence, not by version. Reading a stream
//     from a version in its middle reads what is before it too, and reading
//     backwards takes a question for each event: fine for the last events of a
//     stream, slow for long ones.
//   - List reads the names of all documents of a collection first.
//   - There is no [store.Indexer]: Find reads the collection.
package jetstream
