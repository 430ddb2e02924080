'use strict';

const http = require('node:http');

/** A server that answers as the test tells it, and remembers what it was asked. */
async function start(answer = () => ({})) {
  const seen = { requests: [], connections: 0, answer };
  const server = http.createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', async () => {
      const text = Buffer.concat(parts).toString();
      const asked = {
        method: request.method,
        path: request.url,
        headers: request.headers,
        json: text ? JSON.parse(text) : undefined,
        bytes: text.length,
        at: Date.now(),
      };
      seen.requests.push(asked);
      const { status, headers = {}, body, destroy } = await seen.answer(asked, seen.requests.length);
      if (destroy) return request.socket.destroy();
      const results = asked.json?.events?.map(({ id }) => ({ id, status: 'accepted' }));
      response.writeHead(status ?? 202, { 'content-type': 'application/json', ...headers });
      response.end(typeof body === 'string' ? body : JSON.stringify(body ?? (results ? { results } : {})));
    });
  });
  server.on('connection', () => seen.connections++);
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  seen.host = `http://127.0.0.1:${server.address().port}`;
  seen.events = () => seen.requests.flatMap((request) => request.json?.events ?? []);
  seen.stop = () => new Promise((resolve) => {
    server.close(resolve);
    server.closeAllConnections?.();
  });
  return seen;
}

module.exports = { start };
