package deed

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/wire"
)

// What is stored of messages of others is for ever. Every field is set.
func TestMessageFormats(t *testing.T) {
	m := InboundMessage{
		ID: "p-1", Source: "https://pay.example", Type: "payment.settled.v1", Subject: "o-17", Time: time.Date(2026, 2, 3, 4, 5, 6, 7000000, time.UTC),
		ContentType: "application/json; charset=utf-8", Schema: "/schemas/settled", Attributes: map[string]string{"partitionkey": "ann", "correlationid": "flow"},
		Data: []byte(`{"amount":1.50}`),
	}
	other := m
	other.ContentType, other.Data = "image/png", []byte{0x89, 'P', 'N', 'G'}
	broken := InboundMessage{ID: "p-2", Source: "/", Type: "t", Data: []byte(`{"a":1,"a":2}`)}
	none := InboundMessage{ID: "p-3", Source: "/", Type: "t"}
	got := bytes.NewBufferString(messageStream("payments", &m) + " " + messageID(messageStream("payments", &m)) + "\n")
	for _, m := range []InboundMessage{m, other, broken, none} {
		data, err := wire.Marshal(storedMessageOf(&m))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(got, "received %s\n", data)
		var back messageReceived
		if err := wire.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back.message(), m) {
			t.Errorf("%+v, %v", back.message(), err)
		}
	}
	data, err := wire.Marshal(messageHandled{Entities: []string{"order/o-17"}, Code: "too_much", Reason: "that is more than was billed"})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(got, "handled %s\n", data)
	golden(t, "testdata/messages.txt", got.String())
}

func TestTraceID(t *testing.T) {
	for parent, want := range map[string]string{
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01": "0af7651916cd43dd8448eb211c80319c",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": "",
		"00-0af7651916cd43dd8448eb211c8031-b7ad6b7169203331-01":   "",
		"00-0af7651916cd43dd8448eb211c80319x-b7ad6b7169203331-01": "",
		"0af7651916cd43dd8448eb211c80319c":                        "",
		"":                                                        "",
	} {
		if got := traceID(parent); got != want {
			t.Errorf("%q: %q", parent, got)
		}
	}
}
