'use strict';

/** Why a call failed: `code` for programs, `message` for people. */
class ChurnPredictorError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{status?: number, cause?: unknown}} [more]
   */
  constructor(code, message, { status, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'ChurnPredictorError';
    this.code = code;
    this.status = status;
  }

  /** From an answer that is no success: problem+json if the server wrote it, else whatever came. */
  static fromAnswer({ status, text }) {
    const problem = parsed(text);
    const code = typeof problem?.code === 'string' ? problem.code : `http_${status}`;
    const detail = problem?.detail || problem?.title || text.slice(0, 200) || 'no explanation';
    const error = new ChurnPredictorError(code, `the server answered ${status}: ${detail}`, { status });
    Object.defineProperty(error, 'answer', { value: problem });
    return error;
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

module.exports = { ChurnPredictorError };
