// Package jetstream keeps everything in NATS JetStream.
package jetstream
