package amqptest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
)

// A VHost is a virtual host, and what can be done to those who use it without
// a word to anybody else.
type VHost struct {
	Name string
	URL  string // of user guest, who may do all

	node *Node
}

func (n *Node) vhost(name string) *VHost {
	v := &VHost{Name: name, node: n}
	v.URL = v.URLFor("guest", "guest")
	return v
}

// URLFor is the virtual host's address for another user.
func (v *VHost) URLFor(user, password string) string {
	u := url.URL{
		Scheme:  "amqp",
		User:    url.UserPassword(user, password),
		Host:    net.JoinHostPort("127.0.0.1", strconv.Itoa(v.node.Port)),
		Path:    "/" + v.Name,
		RawPath: "/" + url.PathEscape(v.Name),
	}
	return u.String()
}

// AddVHost makes a virtual host, in which user guest may do all.
func (n *Node) AddVHost(ctx context.Context, name string) (*VHost, error) {
	v := n.vhost(name)
	err := n.Eval(ctx, nil, `case rabbit_vhost:add(%s, <<"test">>) of ok -> ok; {ok, _} -> ok end`, bin(name))
	if err == nil {
		err = v.SetPermissions(ctx, "guest", ".*", ".*", ".*")
	}
	if err != nil {
		return nil, fmt.Errorf("virtual host %q: %w", name, err)
	}
	return v, nil
}

// Delete deletes the virtual host. Its connections are closed.
func (v *VHost) Delete(ctx context.Context) error {
	return v.node.Eval(ctx, nil, `case rabbit_vhost:delete(%s, <<"test">>) of ok -> ok; {ok, _} -> ok end`, bin(v.Name))
}

// AddUser makes a user who may do nothing: SetPermissions comes next.
func (v *VHost) AddUser(ctx context.Context, user, password string) error {
	return v.node.Eval(ctx, nil, `ok = rabbit_auth_backend_internal:add_user(%s, %s, <<"test">>)`, bin(user), bin(password))
}

// AllowManagement lets a user use the management API, for the virtual hosts in which it may do
// something.
func (v *VHost) AllowManagement(ctx context.Context, user string) error {
	return v.node.Eval(ctx, nil, `ok = rabbit_auth_backend_internal:set_tags(%s, [management], <<"test">>)`, bin(user))
}

// ChangePassword leaves those alone who are logged in.
func (v *VHost) ChangePassword(ctx context.Context, user, password string) error {
	return v.node.Eval(ctx, nil, `ok = rabbit_auth_backend_internal:change_password(%s, %s, <<"test">>)`, bin(user), bin(password))
}

// DeleteUser leaves those alone who are logged in.
func (v *VHost) DeleteUser(ctx context.Context, user string) error {
	return v.node.Eval(ctx, nil, `ok = rabbit_auth_backend_internal:delete_user(%s, <<"test">>)`, bin(user))
}

// SetPermissions says what a user may configure, write to and read from, as
// regular expressions for names of queues and exchanges: ".*" is all, "^$"
// nothing. Channels that are open see it after a moment.
func (v *VHost) SetPermissions(ctx context.Context, user, configure, write, read string) error {
	return v.node.Eval(ctx, nil, `ok = rabbit_auth_backend_internal:set_permissions(%s, %s, %s, %s, %s, <<"test">>)`,
		bin(user), bin(v.Name), bin(configure), bin(write), bin(read))
}

// SetTopicPermissions says with which keys a user may publish to a topic exchange, and which it may
// bind, as regular expressions.
func (v *VHost) SetTopicPermissions(ctx context.Context, user, exchange, write, read string) error {
	return v.node.Eval(ctx, nil, `ok = rabbit_auth_backend_internal:set_topic_permissions(%s, %s, %s, %s, %s, <<"test">>)`,
		bin(user), bin(v.Name), bin(exchange), bin(write), bin(read))
}

// LimitUser sets a limit of a user: "max-connections" or "max-channels". Those who are there may
// stay.
func (v *VHost) LimitUser(ctx context.Context, user, limit string, most int) error {
	return v.node.Eval(ctx, nil, `ok = rabbit_auth_backend_internal:set_user_limits(%s, %s, <<"test">>)`,
		bin(user), bin(fmt.Sprintf("{%q:%d}", limit, most)))
}

// Limit sets a limit of the virtual host: "max-connections" or "max-queues". What there is may
// stay.
func (v *VHost) Limit(ctx context.Context, limit string, most int) error {
	return v.node.Eval(ctx, nil, `ok = rabbit_vhost_limit:parse_set(%s, %s, <<"test">>)`, bin(v.Name), bin(fmt.Sprintf("{%q:%d}", limit, most)))
}

// SetPolicy sets the policy, or operator policy, of the virtual host for all queues (a policy: and
// exchanges) whose names match pattern. The definition is JSON: {"expires": 1000}.
func (v *VHost) SetPolicy(ctx context.Context, pattern, definition string, operator bool) error {
	set, applyTo := "parse_set", "all"
	if operator {
		set, applyTo = "parse_set_op", "queues"
	}
	return v.node.Eval(ctx, nil, `ok = rabbit_policy:%s(%s, <<"test">>, %s, %s, <<"0">>, <<"%s">>, <<"test">>)`,
		set, bin(v.Name), bin(pattern), bin(definition), applyTo)
}
