// Go's recipes as a partner in a conversation: tests/recipes/test_with_go.py holds the other end.
//
// Each line of the input is a command and its words; each answer is one line, "ok ..." or
// "error ...". Commands run one after another, so one that waits is answered when it is done.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
)

type partner struct {
	client    *clientv3.Client
	session   *concurrency.Session
	mutexes   map[string]*concurrency.Mutex
	rwMutexes map[string]*recipe.RWMutex
	elections map[string]*concurrency.Election
	doubles   map[string]*recipe.DoubleBarrier
}

var isolations = map[string]concurrency.Isolation{
	"serializable-snapshot": concurrency.SerializableSnapshot,
	"serializable":          concurrency.Serializable,
	"repeatable-read":       concurrency.RepeatableReads,
}

func main() {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Args[1]}})
	check(err)
	session, err := concurrency.NewSession(client)
	check(err)
	p := &partner{
		client, session, map[string]*concurrency.Mutex{}, map[string]*recipe.RWMutex{},
		map[string]*concurrency.Election{}, map[string]*recipe.DoubleBarrier{},
	}
	fmt.Printf("ok %x\n", session.Lease())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if answer, err := p.obey(words[0], words[1:]); err != nil {
			fmt.Println("error", err)
		} else {
			fmt.Println("ok", answer)
		}
	}
	session.Close()
}

func check(err error) {
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

func (p *partner) obey(command string, words []string) (string, error) {
	ctx := context.Background()
	name := words[0]
	switch command {
	case "lock", "trylock", "unlock":
		return "", p.mutex(ctx, command, name)
	case "rlock", "wlock", "runlock", "wunlock":
		return "", p.rwMutex(command, name)
	case "campaign", "proclaim", "resign", "leader":
		return p.election(ctx, command, name, words[1:])
	case "hold":
		return "", recipe.NewBarrier(p.client, name).Hold()
	case "release":
		return "", recipe.NewBarrier(p.client, name).Release()
	case "wait":
		return "", recipe.NewBarrier(p.client, name).Wait()
	case "enter":
		count, _ := strconv.Atoi(words[1])
		p.doubles[name] = recipe.NewDoubleBarrier(p.session, name, count)
		return "", p.doubles[name].Enter()
	case "leave":
		return "", p.doubles[name].Leave()
	case "enqueue":
		return "", recipe.NewQueue(p.client, name).Enqueue(words[1])
	case "dequeue":
		return recipe.NewQueue(p.client, name).Dequeue()
	case "penqueue":
		priority, _ := strconv.Atoi(words[2])
		return "", recipe.NewPriorityQueue(p.client, name).Enqueue(words[1], uint16(priority))
	case "pdequeue":
		return recipe.NewPriorityQueue(p.client, name).Dequeue()
	case "add":
		return "", p.add(name, words[1], words[2])
	case "register":
		manager, err := endpoints.NewManager(p.client, name)
		if err != nil {
			return "", err
		}
		endpoint := endpoints.Endpoint{Addr: words[1], Metadata: map[string]any{"load": 2}}
		return "", manager.AddEndpoint(ctx, name+"/"+words[1], endpoint)
	case "endpoints":
		return p.endpoints(ctx, name)
	}
	return "", fmt.Errorf("no command %q", command)
}

func (p *partner) mutex(ctx context.Context, command, name string) error {
	if p.mutexes[name] == nil {
		p.mutexes[name] = concurrency.NewMutex(p.session, name)
	}
	switch command {
	case "lock":
		return p.mutexes[name].Lock(ctx)
	case "trylock":
		return p.mutexes[name].TryLock(ctx)
	}
	return p.mutexes[name].Unlock(ctx)
}

func (p *partner) rwMutex(command, name string) error {
	if p.rwMutexes[name] == nil {
		p.rwMutexes[name] = recipe.NewRWMutex(p.session, name)
	}
	switch command {
	case "rlock":
		return p.rwMutexes[name].RLock()
	case "wlock":
		return p.rwMutexes[name].Lock()
	case "runlock":
		return p.rwMutexes[name].RUnlock()
	}
	return p.rwMutexes[name].Unlock()
}

func (p *partner) election(
	ctx context.Context, command, name string, words []string,
) (string, error) {
	if p.elections[name] == nil {
		p.elections[name] = concurrency.NewElection(p.session, name)
	}
	election := p.elections[name]
	switch command {
	case "campaign":
		return "", election.Campaign(ctx, words[0])
	case "proclaim":
		return "", election.Proclaim(ctx, words[0])
	case "resign":
		return "", election.Resign(ctx)
	}
	leader, err := election.Leader(ctx)
	if err != nil {
		return "", err
	}
	return string(leader.Kvs[0].Value), nil
}

// add adds 1 to a number, so many times, each in a transaction of its own.
func (p *partner) add(key, times, isolation string) error {
	count, _ := strconv.Atoi(times)
	for range count {
		_, err := concurrency.NewSTM(p.client, func(stm concurrency.STM) error {
			number, _ := strconv.Atoi(stm.Get(key))
			stm.Put(key, strconv.Itoa(number+1))
			return nil
		}, concurrency.WithIsolation(isolations[isolation]))
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *partner) endpoints(ctx context.Context, service string) (string, error) {
	manager, err := endpoints.NewManager(p.client, service)
	if err != nil {
		return "", err
	}
	found, err := manager.List(ctx)
	if err != nil {
		return "", err
	}
	listed := []string{}
	for key, endpoint := range found {
		metadata, _ := json.Marshal(endpoint.Metadata)
		listed = append(listed, fmt.Sprintf("%s=%s%s", key, endpoint.Addr, metadata))
	}
	sort.Strings(listed)
	return strings.Join(listed, " "), nil
}
