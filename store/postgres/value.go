package postgres

import (
	"encoding/binary"
	"math"
)

// encodeValue returns a field's value (see [store.FieldOf]) as bytes whose order
// is the order of values; nil for null. It is part of the stored format.
//
// Numbers begin with 1: the greatest float64 that is not greater, with its bits
// turned so that their order is right, and what an integer has on top of that;
// not every int64 is a float64. Strings begin with 2.
func encodeValue(v any) []byte {
	switch v := v.(type) {
	case bool:
		if v {
			return encodeNumber(1, 0)
		}
		return encodeNumber(0, 0)
	case int64:
		f := float64(v)
		if f >= 1<<63 || int64(f) > v {
			f = math.Nextafter(f, math.Inf(-1))
		}
		return encodeNumber(f, uint16(v-int64(f)))
	case float64:
		return encodeNumber(v, 0)
	case string:
		return append([]byte{2}, v...)
	}
	return nil
}

func encodeNumber(f float64, rest uint16) []byte {
	bits := math.Float64bits(f)
	if f == 0 { // -0, too
		bits = 0
	}
	if bits>>63 == 1 {
		bits = ^bits
	} else {
		bits |= 1 << 63
	}
	b := binary.BigEndian.AppendUint64([]byte{1}, bits)
	return binary.BigEndian.AppendUint16(b, rest)
}
