package amqp

import (
	"context"
	"time"

	"github.com/motifmq/motif/adapters/kit"
)

// keepCredentialsFresh renews the password before it expires, until the connection ends.
func (conn *connection) keepCredentialsFresh() {
	cfg := &conn.supervisor.driver.cfg
	auth, ok := conn.amqp.Config.SASL[0].(*saslPlain)
	if !ok || cfg.Credentials == nil || auth.Expires.IsZero() {
		return
	}
	pause := kit.Backoff{Min: cfg.BackoffMin, Max: cfg.BackoffMax}
	wait := renewAfter(auth.Expires)
	for sleep(conn.ctx, wait) {
		cred, err := conn.renewCredentials()
		switch {
		case err != nil && conn.supervisor.ctx.Err() != nil:
			return
		case err != nil:
			wait = pause.Next()
			cfg.Logger.Warn("motif: cannot renew a password that expires", "role", conn.supervisor.role, "error", err, "retry_in", wait)
		case cred.Expires.IsZero():
			return
		default:
			pause.Reset()
			wait = renewAfter(cred.Expires)
		}
	}
}

// renewCredentials gives the broker the new password.
func (conn *connection) renewCredentials() (cred Credentials, err error) {
	cfg := &conn.supervisor.driver.cfg
	ctx, cancel := context.WithTimeout(conn.ctx, cfg.DialTimeout)
	defer cancel()
	if cred, err = cfg.Credentials(ctx); err != nil {
		return cred, err
	}
	_, err = kit.Call(ctx, conn.supervisor.driver.tasks, func() (struct{}, error) {
		return struct{}{}, conn.amqp.UpdateSecret(cred.Password.Reveal(), "the last one expires")
	}, func(struct{}) {})
	return cred, err
}

// renewAfter leaves a fifth of the time for attempts that fail.
func renewAfter(expires time.Time) time.Duration {
	return max(time.Until(expires)*4/5, time.Second)
}
