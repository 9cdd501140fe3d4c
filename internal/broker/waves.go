package broker

import "github.com/deed-dev/deed/internal/delivery"

// Waves splits events, given by their places in a list, into parts that are sent
// one after the other, each when the broker has the one before. Within a part no
// two events share a partition key: so those of a part can be on their way at
// once, and whichever of them fails, no later one of its key is there before it.
func Waves(events []delivery.Event) [][]int {
	var waves [][]int
	before := make(map[string]int, len(events))
	for i := range events {
		key := events[i].PartitionKey
		n := before[key]
		before[key] = n + 1
		if n == len(waves) {
			waves = append(waves, nil)
		}
		waves[n] = append(waves[n], i)
	}
	return waves
}
