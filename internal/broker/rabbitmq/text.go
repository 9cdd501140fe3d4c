package rabbitmq

import (
	"fmt"
	"time"
)

// text is a value of a header as text, as attributes of CloudEvents are.
func text(v any) string {
	switch v := v.(type) {
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case []byte:
		return string(v)
	}
	return fmt.Sprint(v)
}
