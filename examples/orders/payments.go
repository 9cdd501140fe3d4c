package orders

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// Payments is the payment program, as the shop sees it. Whatever is asked again
// with the same key is not done again. A [deed.Reason] as the error means no;
// any other, that the program could not be reached, or has not answered.
type Payments interface {
	// Charge takes money, and returns the id of the transaction.
	Charge(ctx context.Context, key string, c Charge) (transaction string, err error)
	// Refund gives back what was charged for an order, if anything was. A charge
	// that is still on its way comes to nothing.
	Refund(ctx context.Context, key, order string) error
}

// A Charge is what a customer is to pay for an order.
type Charge struct {
	Order  string      `json:"order"`
	Token  string      `json:"token"` // what the customer pays with
	Amount money.Money `json:"amount"`
}

// A Warehouse that is a program of its own. What is said of [Payments] about
// keys and errors goes for it as well.
type Warehouse interface {
	Available(ctx context.Context, product string) (pieces int, err error)
	Reserve(ctx context.Context, key, product string, p Pieces) error
	// Release gives up what is reserved for an order, if anything is.
	Release(ctx context.Context, key, product, order string) error
}

// ErrDeclined is why a payment is not made.
var ErrDeclined = deed.Reason{Code: "payment_declined", Text: "The payment was declined"}

// sandbox takes no money. It does what tokens say: those that begin with
// "declined" are declined.
type sandbox struct{}

func (sandbox) Charge(_ context.Context, key string, c Charge) (string, error) {
	if strings.HasPrefix(c.Token, "declined") {
		return "", ErrDeclined
	}
	return "sandbox-" + key, nil
}

func (sandbox) Refund(context.Context, string, string) error { return nil }

// PaymentsAt is a payment program at an address, for example
// "https://payments.example.com".
func PaymentsAt(address string) Payments { return paymentsAt(address) }

type paymentsAt string

func (p paymentsAt) Charge(ctx context.Context, key string, c Charge) (string, error) {
	var done struct {
		Transaction string `json:"transaction"`
	}
	err := ask(ctx, http.MethodPost, string(p)+"/charges", key, c, &done)
	return done.Transaction, err
}

func (p paymentsAt) Refund(ctx context.Context, key, order string) error {
	return ask(ctx, http.MethodPost, string(p)+"/refunds", key, map[string]string{"order": order}, nil)
}

// WarehouseAt is a warehouse at an address: a deed program that has [Stocks].
func WarehouseAt(address string) Warehouse { return warehouseAt(address) }

type warehouseAt string

func (w warehouseAt) Available(ctx context.Context, product string) (int, error) {
	var entity struct{ State Stock }
	err := ask(ctx, http.MethodGet, w.of(product), "", nil, &entity)
	return entity.State.Available, err
}

func (w warehouseAt) Reserve(ctx context.Context, key, product string, p Pieces) error {
	return ask(ctx, http.MethodPost, w.of(product)+"/reserve", keyOf(key, product), Reserve(p), nil)
}

func (w warehouseAt) Release(ctx context.Context, key, product, order string) error {
	return ask(ctx, http.MethodPost, w.of(product)+"/release", keyOf(key, product), Release{order}, nil)
}

func (w warehouseAt) of(product string) string {
	return string(w) + "/v1/stock/" + url.PathEscape(product)
}

// keyOf gives each product of a step a key of its own.
func keyOf(key, product string) string {
	return fmt.Sprintf("%s-%x", key, sha256.Sum256([]byte(product)))
}

// ask asks another program for something. That it says no is a [deed.Reason].
func ask(ctx context.Context, method, address, key string, body, into any) error {
	var sent io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return deed.Permanent(err)
		}
		sent = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, address, sent)
	if err != nil {
		return deed.Permanent(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return err
	case resp.StatusCode/100 == 2 && into != nil:
		return json.Unmarshal(data, into)
	case resp.StatusCode/100 == 2:
		return nil
	}
	var no struct{ Code, Reason, Detail string }
	if err := json.Unmarshal(data, &no); err == nil {
		switch resp.StatusCode {
		case http.StatusUnprocessableEntity:
			return deed.Reason{Code: no.Reason, Text: no.Detail}
		case http.StatusNotFound:
			return deed.Reason{Code: no.Code, Text: no.Detail}
		}
	}
	return fmt.Errorf("%s answers %s: %s", r.URL.Host, resp.Status, no.Detail)
}
