package amqp

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

const (
	managementTime = 30 * time.Second // for one response
	managementMost = 16 << 20         // bytes of it
	managementPage = 100              // queues in it
)

// management is RabbitMQ's HTTP API, for what AMQP has no word for.
type management struct {
	d      *Driver
	root   string // what comes before /api
	vhost  string // escaped
	client *http.Client
	silent atomic.Bool // the last request of an Inspect failed, which was logged
}

func newManagement(d *Driver) *management {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if d.cfg.TLS != nil {
		cfg = d.cfg.TLS.Clone()
	}
	return &management{
		d:     d,
		root:  strings.TrimSuffix(d.cfg.Management, "/"),
		vhost: url.PathEscape(d.cfg.VHost),
		client: &http.Client{
			Transport:     &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}, // nothing outlives Close
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// checkManagement says what is wrong with the URL, of which it repeats nothing.
func (c *Config) checkManagement() error {
	if c.Management == "" {
		return nil
	}
	u, err := url.Parse(c.Management)
	switch {
	case err != nil:
		return invalid("the URL of the management API does not parse")
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return invalid("the URL of the management API is not http://host:port or https://host:port")
	case u.User != nil:
		return invalid("the URL of the management API has a user: that is for ManagementCredentials")
	case u.RawQuery != "" || u.Fragment != "":
		return invalid("the URL of the management API has a query or a fragment")
	case u.Scheme == "http" && !isLoopback(u.Hostname()) && !slices.Contains(c.AllowInsecure, u.Hostname()):
		return invalid("a login without TLS to the management API: use https, or allow its host with insecure_host in the URL, or Config.AllowInsecure")
	}
	return nil
}

// stats is what the API reports of a queue.
type stats struct {
	Name      string   `json:"name"`
	Ready     *int     `json:"messages_ready"`
	Unacked   *int     `json:"messages_unacknowledged"`
	Consumers *int     `json:"consumers"`
	Head      *float64 `json:"head_message_timestamp"` // of classic queues; in seconds
}

// columns asks for these and no more.
const columns = "columns=name,messages_ready,messages_unacknowledged,consumers,head_message_timestamp"

func (s *stats) info() adapters.QueueInfo {
	known := func(n *int) int {
		if n == nil {
			return -1
		}
		return *n
	}
	q := adapters.QueueInfo{Name: s.Name, Ready: known(s.Ready), Unacked: known(s.Unacked), Consumers: known(s.Consumers)}
	if s.Head != nil && q.Ready != 0 {
		q.Oldest = time.Unix(int64(*s.Head), 0)
	}
	return q
}

// complete adds what AMQP does not report. If the API does not answer, that is logged, once.
func (m *management) complete(ctx context.Context, q *adapters.QueueInfo) {
	var s stats
	err := m.get(ctx, m.queue(q.Name)+"?"+columns, &s)
	if err != nil {
		if !errors.Is(err, adapters.ErrClosed) && ctx.Err() == nil && !m.silent.Swap(true) {
			m.d.cfg.Logger.Warn("motif: no answer from the management API: what AMQP does not report of queues is unknown", "error", err)
		}
		return
	}
	m.silent.Store(false)
	more := s.info()
	q.Unacked = more.Unacked
	if q.Ready > 0 {
		q.Oldest = more.Oldest
	}
}

// queues yields the queues of the vhost.
func (m *management) queues(ctx context.Context, yield func(adapters.QueueInfo) bool) error {
	for page, pages := 1, 1; page <= pages; page++ {
		var answer struct {
			Items     []stats `json:"items"`
			PageCount int     `json:"page_count"`
		}
		path := fmt.Sprintf("/queues/%s?page=%d&page_size=%d&sort=name&%s", m.vhost, page, managementPage, columns)
		err := m.get(ctx, path, &answer)
		if page > 1 && errors.Is(err, errBadRequest) {
			return nil // there are fewer pages by now
		}
		if err != nil {
			return fmt.Errorf("amqp: list queues: %w", err)
		}
		for i := range answer.Items {
			if !yield(answer.Items[i].info()) {
				return nil
			}
		}
		pages = answer.PageCount
	}
	return nil
}

// bindings returns those of a queue, but not to the default exchange, which all have.
func (m *management) bindings(ctx context.Context, queue string) (list []adapters.Binding, err error) {
	var answer []struct {
		Source string `json:"source"`
		Key    string `json:"routing_key"`
	}
	if err := m.get(ctx, m.queue(queue)+"/bindings", &answer); err != nil {
		return nil, fmt.Errorf("amqp: list bindings of queue %q: %w", queue, err)
	}
	for _, b := range answer {
		if b.Source != "" {
			list = append(list, adapters.Binding{Exchange: b.Source, Key: b.Key})
		}
	}
	return list, nil
}

// expires returns after how long without a consumer a policy has a queue deleted, or 0 if none does
// or the API does not say so, now or soon.
func (m *management) expires(ctx context.Context, queue string) time.Duration {
	const patience = 2 * time.Second // a publish waits for it
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var answer struct {
		Policy struct {
			Expires int64 `json:"expires"` // in milliseconds
		} `json:"effective_policy_definition"`
	}
	if m.get(ctx, m.queue(queue)+"?columns=effective_policy_definition", &answer) != nil {
		return 0
	}
	return time.Duration(answer.Policy.Expires) * time.Millisecond
}

func (m *management) queue(name string) string {
	return "/queues/" + m.vhost + "/" + url.PathEscape(name)
}

// get sends a request to the API, and reads the response into result.
func (m *management) get(ctx context.Context, path string, result any) error {
	limited, cancel := context.WithTimeout(ctx, managementTime)
	defer cancel()
	defer context.AfterFunc(m.d.ctx, cancel)()
	_, err := kit.Call(ctx, m.d.tasks, func() (struct{}, error) { return struct{}{}, m.ask(limited, path, result) }, func(struct{}) {})
	switch {
	case err == nil:
		return nil
	case m.d.ctx.Err() != nil:
		return adapters.ErrClosed
	case errors.Is(err, adapters.ErrInvalid), errors.Is(err, adapters.ErrNotFound), errors.Is(err, adapters.ErrClosed):
		return fmt.Errorf("management API: %w", err)
	}
	return fmt.Errorf("management API: %w: %w", adapters.ErrUnavailable, err)
}

// errBadRequest is the API's response if a page does not exist.
var errBadRequest = errors.New("bad request")

func (m *management) ask(ctx context.Context, path string, result any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.root+"/api"+path, nil)
	if err != nil {
		return err
	}
	if err := m.authorize(ctx, request); err != nil {
		return err
	}
	response, err := m.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it only is read from
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: %s", adapters.ErrAccess, response.Status)
	case http.StatusNotFound:
		return fmt.Errorf("%w: %s", adapters.ErrNotFound, response.Status)
	case http.StatusBadRequest:
		return errBadRequest
	default:
		return errors.New(response.Status)
	}
	body := &io.LimitedReader{R: response.Body, N: managementMost}
	if err = json.NewDecoder(body).Decode(result); err != nil && body.N == 0 {
		return fmt.Errorf("a response of more than %d bytes", managementMost)
	}
	return err
}

// authorize logs in by name and password. Where a client certificate does, there are none.
func (m *management) authorize(ctx context.Context, request *http.Request) error {
	ask := m.d.cfg.ManagementCredentials
	if ask == nil {
		ask = m.d.cfg.Credentials
	}
	switch {
	case ask != nil:
		cred, err := ask(ctx)
		if err != nil {
			return fmt.Errorf("credentials: %w", err)
		}
		request.SetBasicAuth(cred.Username, cred.Password.Reveal())
	case !m.d.cfg.hasCertificate():
		request.SetBasicAuth("guest", "guest")
	}
	return nil
}
