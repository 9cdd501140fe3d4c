package cli

import (
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed/internal/bench"
	"github.com/deed-dev/deed/internal/verify"
)

// dsnOf is the DSN of an installation on the server of another DSN.
func dsnOf(dsn string, in verify.Installation) string {
	base, query, _ := strings.Cut(dsn, "?")
	q, err := url.ParseQuery(query)
	if err != nil {
		return dsn // it was opened before
	}
	switch at := in.(type) {
	case schema:
		q.Set("schema", at.name)
	case streams:
		q.Set("name", at.Name)
	}
	return base + "?" + q.Encode()
}

// benchNode runs this program a second time, as a node that is measured. The
// node may use one core, and ends when its standard input does: also if this
// process is killed. Its DSN may have a password, which is nothing for a
// command line.
func (a *app) benchNode(ctx context.Context, dsn, name string) (func() error, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "bench", "node", "--node", name)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", envName("store")+"="+dsn, envName("views")+"="+a.views)
	cmd.Stderr, cmd.WaitDelay = a.talk, 10*time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() error { return errors.Join(in.Close(), cmd.Wait()) }, nil
}

// nodeOfBench is the command of such a node.
func (a *app) nodeOfBench() *cobra.Command {
	cmd := &cobra.Command{
		Use: "node", Hidden: true, Short: "Be one of the nodes that bench --store measures, until standard input ends", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.openBoth(cmd.Context(), a.store, true)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(cmd.Context())
			go func() {
				io.Copy(io.Discard, a.in) // what it says does not matter
				cancel()
			}()
			return errors.Join(bench.RunNode(ctx, s, a.node), s.Close())
		},
	}
	cmd.Flags().StringVar(&a.node, "node", "", "its name")
	return cmd
}
