// Checked by the compiler only: the same by import.
import ChurnPredictor, { ChurnPredictor as Named, ChurnPredictorError } from '@churnpredictor/node';

export const client: Named = new ChurnPredictor('sk_...');
export const options: ChurnPredictor.Options = { queue: 5 };
export const codeOf = (error: unknown): string => (error instanceof ChurnPredictorError ? error.code : 'unknown');
// @ts-expect-error: scores are numbers
export const score: string = (await client.risk('c')).score;
