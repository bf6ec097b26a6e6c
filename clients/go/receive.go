package mathub

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// defaultTolerance is how far webhook-timestamp may be off, as in the Standard Webhooks libraries.
	defaultTolerance = 5 * time.Minute
	// defaultLimit bounds a body: events have at most 256 KiB, and their envelope.
	defaultLimit = 300 << 10
	// maxSignatures is how many a request has at most: each costs work, whoever sends it.
	maxSignatures = 10

	secretPrefix    = "whsec_"
	publicKeyPrefix = "whpk_"
)

var (
	validID        = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
	validTimestamp = regexp.MustCompile(`^[0-9]{1,15}$`)
)

// ErrNotGenuine says that a request is not from Mathub, or not as it was sent: answer 401.
var ErrNotGenuine = errors.New("the request is not genuine")

// Received is an event as a bot receives it, be it by a webhook or by polling.
type Received struct {
	// ID is the same on every attempt: drop what you have handled.
	ID   string
	Type EventType
	// Timestamp is when it happened; zero where the body does not say.
	Timestamp time.Time
	// Data is one of this package's structs, such as [PostCreatedData]. It is a json.RawMessage, equal to Raw, where this version does not know the
	// type, or the data has a documented field of another type.
	Data any
	// Raw is the data as it came, with fields beyond the documented ones.
	Raw json.RawMessage
	// Test: the webhook's owner asked for a sample of the type.
	Test bool
}

// Receiver verifies requests to a webhook. Set its fields before its use; many goroutines may then use it.
type Receiver struct {
	// BodySignature verifies X-Mathub-Signature, which covers the body alone: anybody who has captured a request can send it again. Otherwise
	// webhook-signature is to hold, which covers id, time and body, so that a request is refused under another id, and later.
	BodySignature bool
	// Tolerance is how far webhook-timestamp may be off, either way; 5 minutes when 0.
	Tolerance time.Duration
	// Limit is the most bytes of a body that a handler reads; 300 KiB when 0.
	Limit int64

	secrets []string
	keys    []ed25519.PublicKey
}

// NewReceiver is a receiver for a webhook's secret, or a public key of it (whpk_…), or several while they are changed: one that is right will do.
func NewReceiver(secrets ...string) (*Receiver, error) {
	if len(secrets) == 0 {
		return nil, errNoSecret
	}
	r := &Receiver{}
	for _, secret := range secrets {
		encoded, isKey := strings.CutPrefix(secret, publicKeyPrefix)
		switch {
		case secret == "", secret == secretPrefix: // what anyone knows
			return nil, errNoSecret
		case isKey:
			key, err := base64.StdEncoding.DecodeString(encoded)
			if err != nil || len(key) != ed25519.PublicKeySize {
				return nil, errors.New("a public key must be whpk_ and the base64 of 32 bytes")
			}
			r.keys = append(r.keys, key)
		case strings.Contains(secret, publicKeyPrefix): // as a secret, it would be one that everybody knows
			return nil, errors.New("a public key must begin with whpk_: remove what stands before it, such as a quote or a space")
		case strings.TrimSpace(secret) != secret:
			return nil, errSpace
		case strings.HasPrefix(secret, secretPrefix) && string(standardKey(secret)) == secret:
			return nil, errCut
		default:
			r.secrets = append(r.secrets, secret)
		}
	}
	return r, nil
}

// errSpace says at once what else each request would be refused for.
var errSpace = errors.New("the secret begins or ends with white space, such as a file's last line break: no webhook has one like that")

var errCut = errors.New("the secret has no padded base64 after whsec_, as each webhook's has: its end may be missing, such as a =")

var errNoSecret = errors.New("the secret is empty: anyone could sign with it")

// Verify verifies a request to a webhook and returns its event: see [Receiver.Verify].
func Verify(body []byte, header http.Header, secrets ...string) (Received, error) {
	receiver, err := NewReceiver(secrets...)
	if err != nil {
		return Received{}, err
	}
	return receiver.Verify(body, header)
}

// Verify returns the event of a request to a webhook. body is what came, byte for byte. The error is an [ErrNotGenuine].
func (r *Receiver) Verify(body []byte, header http.Header) (Received, error) {
	id, err := single(header, "webhook-id")
	if err != nil {
		return Received{}, err
	}
	if r.BodySignature {
		err = r.verifyBody(body, header)
	} else {
		err = r.verifyStandard(body, header, id)
	}
	if err != nil {
		return Received{}, err
	}
	return parseReceived(body, id)
}

func (r *Receiver) verifyStandard(body []byte, header http.Header, id string) error {
	timestamp, err := single(header, "webhook-timestamp")
	switch {
	case err != nil:
		return err
	case !validID.MatchString(id):
		return notGenuine("webhook-id is missing, or no event's id")
	case !validTimestamp.MatchString(timestamp):
		return notGenuine("webhook-timestamp is missing, or not a time in Unix seconds")
	}
	tolerance := r.Tolerance
	if tolerance == 0 {
		tolerance = defaultTolerance
	}
	seconds, _ := strconv.ParseInt(timestamp, 10, 64) // at most 15 digits
	if off := time.Since(time.Unix(seconds, 0)); off.Abs() > tolerance {
		return notGenuine(fmt.Sprintf("webhook-timestamp is more than %v off: the request is sent again, or the clock is wrong", tolerance))
	}
	// There are several while a secret is changed, separated by spaces.
	given := strings.SplitN(strings.Join(header.Values("webhook-signature"), " "), " ", maxSignatures+1)
	given = given[:min(len(given), maxSignatures)]
	if !r.matches(given, func(secret string) string { return signStandard(secret, id, timestamp, body) }) && !r.signedByKey(given, id, timestamp, body) {
		return notGenuine("webhook-signature is missing or wrong")
	}
	return nil
}

func (r *Receiver) verifyBody(body []byte, header http.Header) error {
	given, err := single(header, "X-Mathub-Signature")
	if err != nil {
		return err
	}
	if !r.matches([]string{given}, func(secret string) string { return signBody(secret, body) }) {
		return notGenuine("X-Mathub-Signature is missing or wrong")
	}
	return nil
}

// matches says whether one of the signatures is that of one of the secrets, in constant time.
func (r *Receiver) matches(given []string, sign func(secret string) string) bool {
	found := false
	for _, secret := range r.secrets {
		expected := []byte(sign(secret))
		for _, signature := range given {
			found = hmac.Equal(expected, []byte(signature)) || found
		}
	}
	return found
}

// signedByKey says whether one of the signatures is of one of the key pairs.
func (r *Receiver) signedByKey(given []string, id, timestamp string, body []byte) bool {
	signed := append([]byte(id+"."+timestamp+"."), body...)
	for _, entry := range given {
		encoded, _ := strings.CutPrefix(entry, "v1a,")
		signature, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || encoded == entry {
			continue
		}
		for _, key := range r.keys {
			if ed25519.Verify(key, signed, signature) {
				return true
			}
		}
	}
	return false
}

// Handler serves the requests of a webhook: it verifies a request and has its event handled. The answer is 204 once handle returns, 500 after its
// error, which is logged, and after which the event comes again later; 401 where the request is not genuine, 400 where its body breaks off, 413
// where it is too large. A webhook.verify is answered with its nonce.
//
// Mathub waits 5 seconds: store the event and do slow work afterwards. Drop repeats by the event's id.
func (r *Receiver) Handler(handle func(ctx context.Context, event Received) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if request.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "send a POST", http.StatusMethodNotAllowed)
			return
		}
		limit := r.Limit
		if limit == 0 {
			limit = defaultLimit
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, limit))
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			http.Error(w, "the body is too large", http.StatusRequestEntityTooLarge)
			return
		} else if err != nil {
			http.Error(w, "the body is incomplete", http.StatusBadRequest)
			return
		}
		event, err := r.Verify(body, request.Header)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		if asked, ok := event.Data.(WebhookVerifyData); ok {
			// Yes, this endpoint wants the webhook's deliveries: whoever knows the secret asks.
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = io.WriteString(w, asked.Nonce)
			return
		}
		if err := handle(request.Context(), event); err != nil {
			slog.ErrorContext(request.Context(), "an event of Mathub was not handled", "id", event.ID, "type", event.Type, "error", err)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// Sign makes the headers of a body that Mathub would send at that time: for the tests of a receiver.
func Sign(body []byte, secret, id string, at time.Time) http.Header {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	header := http.Header{}
	header.Set("Content-Type", "application/json")
	header.Set("webhook-id", id)
	header.Set("webhook-timestamp", timestamp)
	header.Set("webhook-signature", signStandard(secret, id, timestamp, body))
	header.Set("X-Mathub-Signature", signBody(secret, body))
	return header
}

func signStandard(secret, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, standardKey(secret))
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func signBody(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// standardKey is the key of webhook-signature: of a secret whsec_<base64> the bytes that it encodes, else the secret's own.
func standardKey(secret string) []byte {
	encoded, ok := strings.CutPrefix(secret, secretPrefix)
	if ok && !strings.ContainsAny(encoded, "\r\n") { // which Go's decoder skips
		if key, err := base64.StdEncoding.DecodeString(encoded); err == nil && len(key) > 0 {
			return key
		}
	}
	return []byte(secret)
}

func single(header http.Header, name string) (string, error) {
	values := header.Values(name)
	if len(values) > 1 {
		return "", notGenuine(name + " is there more than once")
	}
	return header.Get(name), nil
}

func notGenuine(why string) error { return fmt.Errorf("%w: %s", ErrNotGenuine, why) }

func parseReceived(body []byte, id string) (Received, error) {
	var event struct {
		Event     *string         `json:"event"`
		Timestamp any             `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
		Test      any             `json:"test"`
	}
	if !utf8.Valid(body) || !json.Valid(body) {
		return Received{}, notGenuine("the body is signed, but is no JSON")
	}
	if err := json.Unmarshal(body, &event); err != nil || event.Event == nil || !bytes.HasPrefix(event.Data, []byte("{")) {
		return Received{}, notGenuine("the body is signed, but is no event")
	}
	text, _ := event.Timestamp.(string)
	at, _ := time.Parse(time.RFC3339, text) // zero where there is none
	return Received{
		ID: id, Type: EventType(*event.Event), Timestamp: at, Data: typed(*event.Event, event.Data), Raw: event.Data, Test: event.Test == true,
	}, nil
}

// dataOf reads the data of an event, or is raw where a documented field is of another type.
func dataOf[T any](raw json.RawMessage) any {
	var data T
	if json.Unmarshal(raw, &data) != nil {
		return raw
	}
	return data
}
