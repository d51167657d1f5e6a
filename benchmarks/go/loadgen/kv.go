package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func runPut(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	v := value(s.valueBytes)
	return closedLoop(ctx, s, clients, func(ctx context.Context, c *clientv3.Client, dice *rand.Rand) error {
		_, err := c.Put(ctx, keyName(s, dice.Intn(s.keys)), v)
		return err
	})
}

// readOptions are those of one range of s.limit keys from a random one on.
func readOptions(s *settings) []clientv3.OpOption {
	var options []clientv3.OpOption
	if s.limit > 1 {
		options = append(options, clientv3.WithRange(clientv3.GetPrefixRangeEnd(s.prefix)),
			clientv3.WithLimit(int64(s.limit)))
	}
	if s.serializable {
		options = append(options, clientv3.WithSerializable())
	}
	return options
}

func runRange(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	options := readOptions(s)
	return closedLoop(ctx, s, clients, func(ctx context.Context, c *clientv3.Client, dice *rand.Rand) error {
		answer, err := c.Get(ctx, keyName(s, dice.Intn(s.keys-s.limit+1)), options...)
		if err == nil && len(answer.Kvs) != s.limit {
			return fmt.Errorf("%d keys instead of %d", len(answer.Kvs), s.limit)
		}
		return err
	})
}

func runStream(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	options := readOptions(s)
	return closedLoop(ctx, s, clients, func(ctx context.Context, c *clientv3.Client, dice *rand.Rand) error {
		chunks, err := c.GetStream(ctx, keyName(s, dice.Intn(s.keys-s.limit+1)), options...)
		if err != nil {
			return err
		}
		got := 0
		for chunk := range chunks {
			if err := chunk.Err(); err != nil {
				return err
			}
			got += len(chunk.Kvs)
		}
		if got != s.limit {
			return fmt.Errorf("%d keys instead of %d", got, s.limit)
		}
		return nil
	})
}

func runCount(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	return closedLoop(ctx, s, clients, func(ctx context.Context, c *clientv3.Client, _ *rand.Rand) error {
		answer, err := c.Get(ctx, s.prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err == nil && answer.Count != int64(s.keys) {
			return fmt.Errorf("%d keys instead of %d", answer.Count, s.keys)
		}
		return err
	})
}

func runTxn(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	v := value(s.valueBytes)
	return closedLoop(ctx, s, clients, func(ctx context.Context, c *clientv3.Client, dice *rand.Rand) error {
		key := keyName(s, dice.Intn(s.keys))
		answer, err := c.Txn(ctx).
			If(clientv3.Compare(clientv3.Version(key), ">", -1)).
			Then(clientv3.OpPut(key, v)).
			Commit()
		if err == nil && !answer.Succeeded {
			return errors.New("a comparison that is always true failed")
		}
		return err
	})
}

func runMixed(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	v := value(s.valueBytes)
	options := readOptions(s)
	return closedLoop(ctx, s, clients, func(ctx context.Context, c *clientv3.Client, dice *rand.Rand) error {
		key := keyName(s, dice.Intn(s.keys))
		if dice.Intn(100) < s.readPercent {
			_, err := c.Get(ctx, key, options...)
			return err
		}
		_, err := c.Put(ctx, key, v)
		return err
	})
}

// fill writes keys 0..s.keys-1, s.batch of them per transaction, and returns the last revision.
func fill(ctx context.Context, s *settings, clients []*clientv3.Client) error {
	v := value(s.valueBytes)
	batches := (s.keys + s.batch - 1) / s.batch
	return parallel(s, clients, batches, func(c *clientv3.Client, i int) error {
		if s.batch == 1 {
			_, err := c.Put(ctx, keyName(s, i), v)
			return err
		}
		puts := make([]clientv3.Op, 0, s.batch)
		for k := i * s.batch; k < min((i+1)*s.batch, s.keys); k++ {
			puts = append(puts, clientv3.OpPut(keyName(s, k), v))
		}
		_, err := c.Txn(ctx).Then(puts...).Commit()
		return err
	})
}

func runFill(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	began := time.Now()
	err := fill(ctx, s, clients)
	return once(s.keys, time.Since(began)), err
}

// runDelete measures how long one delete of s.keys keys takes, s.total times.
func runDelete(ctx context.Context, s *settings, clients []*clientv3.Client) (report, error) {
	var all sample
	var took time.Duration
	for round := 0; round < max(s.total, 1); round++ {
		if err := fill(ctx, s, clients); err != nil {
			return report{}, err
		}
		began := time.Now()
		answer, err := clients[0].Delete(ctx, s.prefix, clientv3.WithPrefix())
		if err != nil {
			return report{}, err
		}
		if answer.Deleted != int64(s.keys) {
			return report{}, fmt.Errorf("%d keys deleted instead of %d", answer.Deleted, s.keys)
		}
		lasted := time.Since(began)
		took += lasted
		all.latencies = append(all.latencies, uint32(lasted.Microseconds()))
	}
	r := summarize([]sample{all}, took)
	r.Ops, r.TotalOps = r.Ops*s.keys, r.TotalOps*s.keys
	r.Rate = float64(r.Ops) / r.Seconds
	return r, nil
}

// once reports count operations that were timed as a whole.
func once(count int, took time.Duration) report {
	return report{Ops: count, TotalOps: count, Seconds: took.Seconds(), Rate: float64(count) / took.Seconds()}
}
